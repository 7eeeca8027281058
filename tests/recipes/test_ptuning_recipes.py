"""Both P-Tuning recipes from an old checkpoint to the page of answers, shrunken."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import SFTConfig

from medtune.evaluation.tasks.promptcblue import PromptCblue
from medtune.parsing import parse_arguments
from tests.conftest import REPO
from tests.models.chatglm import (
    old_config,
    random_tensors,
    sample_texts,
    train_sentencepiece,
    write_config,
    write_weights,
)
from tests.stages.test_chain import LEFT_OUT

RECIPES = CONSULT, PROMPTCBLUE = "chatglm2_ptuning_consult", "chatglm2_ptuning_promptcblue"
FOLDERS = [REPO / "recipes" / name for name in RECIPES]
FEW_STEPS = (
    "--max_steps=2", "--gradient_accumulation_steps=1", "--per_device_train_batch_size=2",
    "--predict_with_generate=False", "--max_eval_samples=2", "--report_to=none",
)  # fmt: skip


Runs = dict[str, tuple[subprocess.Popen[str], Path]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Both recipes at the same time on a random ChatGLM2, in a checkout with no data beside it."""
    root = tmp_path_factory.mktemp("recipes")
    config = old_config("chatglm2", num_layers=2, seq_length=1024)
    old = write_config(root / "old", config)
    write_weights(old, random_tensors(config), "bin")
    (old / "tokenizer.model").write_bytes(train_sentencepiece(sample_texts()))
    checkout = Path(shutil.copytree(REPO, root / "checkout", ignore=LEFT_OUT))
    (checkout / ".venv").symlink_to(REPO / ".venv")
    environment = {
        **os.environ, "MODEL": str(old), "LIMIT": "6", "OMP_NUM_THREADS": "1",
        "MEDTUNE_CACHE": str(root / "cache"),
    }  # fmt: skip
    for name in ("DATA", "OUT", "NPROC"):
        environment.pop(name, None)
    started = {}
    for name in RECIPES:
        process = subprocess.Popen(
            ["bash", f"recipes/{name}/run.sh", *FEW_STEPS], cwd=checkout, env=environment,
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        started[name] = (process, checkout / "outputs" / name)
    yield started
    for process, _ in started.values():
        process.terminate()  # the script passes it on


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        (CONSULT, {"rouge_bleu", "answer_perplexity", "replies"}),
        (PROMPTCBLUE, {"promptcblue", "replies"}),
    ],
)
def test_recipe_runs_from_an_old_checkpoint_to_the_page(
    runs: Runs, name: str, tasks: set[str]
) -> None:
    process, folder = runs[name]
    printed, _ = process.communicate(timeout=900)

    assert process.returncode == 0, printed[-4000:]
    assert read(folder / "chatglm2/config.json")["model_type"] == "glm"
    adapter = read(folder / "prefix/adapter_config.json")
    assert (adapter["peft_type"], adapter["num_virtual_tokens"]) == ("PREFIX_TUNING", 128)
    before, after = (read(folder / part / "results.json") for part in ("before", "after"))
    assert set(before["tasks"]) == set(after["tasks"]) == tasks
    assert before["model"]["adapter"] is None and after["model"]["adapter"]
    assert f"compared with outputs/{name}/before, item by item" in printed
    page = (folder / "report.html").read_text(encoding="utf-8")
    questions = (REPO / "recipes" / name / "questions.jsonl").read_text(encoding="utf-8")
    for line in questions.splitlines():
        assert json.loads(line)["question"].split("\n")[0] in page
    chat = f"python chat.py --model_name_or_path outputs/{name}/chatglm2 --adapter"
    assert chat in printed


def test_sample_rows_have_targets_that_the_scorer_reads_and_no_row_of_the_evaluation(
    tmp_path: Path,
) -> None:
    script = REPO / "recipes" / PROMPTCBLUE / "sample_rows.py"
    for number in ("1", "2"):
        output = tmp_path / number / "rows.jsonl"
        subprocess.run([sys.executable, script, REPO / "data/source", output], check=True)

    docs = PromptCblue.read(tmp_path / "1")

    assert len(docs) == 13 * len(read(REPO / "data/source/diseases.json"))
    held_out = {doc["question"] for doc in PromptCblue.read(REPO / "data/eval/promptcblue")}
    assert not held_out & {doc["question"] for doc in docs}
    one, two = ((tmp_path / number / "rows.jsonl").read_bytes() for number in ("1", "2"))
    assert one == two


@pytest.mark.parametrize("path", sorted(p for f in FOLDERS for p in f.glob("*.yaml")), ids=str)
def test_configuration_of_a_recipe_parses_and_every_value_arrives(path: Path) -> None:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))

    is_reading = path.stem == "reading"  # of the stand-in, by pretraining.py
    words = ["--config", str(path), "--use_cpu", "True"]

    options = parse_arguments(words, SFTConfig, with_blocks=is_reading).to_dict()

    assert {name: options[name] for name in written} == written
    assert options["tuner"] == ("full" if is_reading else "ptuning_v2")
