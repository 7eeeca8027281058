"""Examination questions a minute by likelihood, and how memory grows with their number.

    python bench/evaluation.py --questions 10000 --output bench/results/evaluation.json
    python bench/evaluation.py --questions 10000 --data ../shared/data/cmb_exam

Questions are drawn with replacement, each with its number in the text, so that none is answered
from what is kept. Beside medtune: lm-eval's own model class, on fewer questions, with the same
prompts. Run alone: both use all cores.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where medtune is

from medtune.common.files import write_json  # noqa: E402

SYSTEMS = ("medtune", "lm-eval")
SHARE_OF_OTHER = 10  # lm-eval gets a tenth of the questions


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--data", type=Path, default=ROOT / "data/eval/cmb_exam")
    parser.add_argument("--model", default="tiny-glm")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a system, measured in this process
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments)))
        return
    cases = [
        ("medtune", arguments.questions // 5),
        ("medtune", arguments.questions),
        ("lm-eval", arguments.questions // SHARE_OF_OTHER),
    ]
    results = [run(name, number, arguments) for name, number in cases]
    for result in results:
        print(
            f"{result['system']}: {result['questions']:,} questions, {result['per_minute']:,} a "
            f"minute, {result['peak_mb']:,} MB, accuracy {result['accuracy']:.4f}"
        )
    if arguments.output:
        write_json(arguments.output, results)


def run(name: str, number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the measurement of one system in a process of its own."""
    command = [
        sys.executable, __file__, "--one", name, "--questions", str(number), "--data",
        str(arguments.data), "--model", arguments.model,
    ]  # fmt: skip
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return speed and memory of one system over drawn questions."""
    from transformers import logging

    from medtune.arguments import EvaluationArguments, ModelArguments
    from medtune.evaluation.engine import run_task, summarize
    from medtune.evaluation.loading import load_language_model, task_options
    from medtune.evaluation.results.folder import EvaluationFolder
    from medtune.evaluation.tasks.cmb_exam import CmbExam
    from medtune.models.loading import load_tokenizer

    logging.disable_progress_bar()
    model_arguments = ModelArguments(arguments.model)
    tokenizer = load_tokenizer(model_arguments)
    options = EvaluationArguments(output_dir="")
    model, _ = load_language_model(model_arguments, options, tokenizer)
    if arguments.one == "lm-eval":
        from lm_eval.models.huggingface import HFLM

        model = HFLM(pretrained=model.model, tokenizer=tokenizer, batch_size=16, max_length=8192)
    docs = CmbExam.read(arguments.data)
    draw = random.Random(0)
    drawn = [draw.choice(docs) for _ in range(arguments.questions)]
    docs = [
        {**doc, "id": str(number), "question": f"{number}. {doc['question']}"}
        for number, doc in enumerate(drawn)
    ]
    build = partial(CmbExam, options=task_options(options, model, tokenizer))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = EvaluationFolder(Path(name), {})
        folder.open()
        samples = run_task(CmbExam.name, docs, build, model, folder)
    seconds = time.monotonic() - started
    return {
        "system": arguments.one,
        "questions": len(samples),
        "seconds": round(seconds, 1),
        "per_minute": round(60 * len(samples) / seconds),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
        "accuracy": summarize(CmbExam, samples)["metrics"]["accuracy"]["value"],
    }


if __name__ == "__main__":
    main()
