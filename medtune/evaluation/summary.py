"""What each stage of a chain made of the model, in one table and one small JSON file.

    python -m medtune.evaluation.summary --base E0 --pt E1 --sft E2 --dpo E3 --output_file F

E0 to E3 are folders that evaluation.py wrote. The page with everything is made by report.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from medtune.common.errors import run_script
from medtune.common.files import read_json, sha256_of_file, write_json
from medtune.common.lineage import COMPLETE_FILE, lineage_file_of, read_lineage, write_lineage
from medtune.common.log import logger
from medtune.evaluation.results.folder import read_results
from medtune.evaluation.results.showing import print_wide, show
from medtune.parsing import parse_into

STAGES = ("base", "pt", "sft", "dpo")
# The number's name in the JSON file: benchmark and metric that it comes from.
NUMBERS = {
    "perplexity_text": ("perplexity", "perplexity"),
    "perplexity_answers": ("answer_perplexity", "perplexity"),
    "knowledge": ("cmb_exam_text", "accuracy"),
    "safety": ("safety", "safe_rate"),
    "preference_accuracy": ("preference", "accuracy"),
    "stop_rate": ("replies", "stop_rate"),
}


@dataclass
class SummaryArguments:
    """The evaluations of a chain."""

    base: str = field(metadata={"help": "Evaluation of the model that the chain started from."})
    pt: str = field(metadata={"help": "Evaluation after pretraining."})
    sft: str = field(metadata={"help": "Evaluation after supervised fine-tuning."})
    dpo: str = field(metadata={"help": "Evaluation after preference optimisation."})
    output_file: str = field(metadata={"help": "JSON file to write."})


def main(argv: list[str]) -> None:
    """Print the table and write the JSON. Raises CheckpointError for an unfinished evaluation."""
    (arguments,) = parse_into(argv, [SummaryArguments], {})
    folders = {stage: Path(getattr(arguments, stage)) for stage in STAGES}
    results = {stage: read_results(folder) for stage, folder in folders.items()}
    found = {stage: numbers_of(result) for stage, result in results.items()}
    print_numbers(found)
    output = Path(arguments.output_file)
    write_json(output, {**found, "seconds": seconds_of(results)})
    write_lineage(lineage_file_of(output), describe(folders), {output.name: sha256_of_file(output)})
    logger.info("written: %s", output)


def numbers_of(results: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of one evaluation that the summary shows, those that it has."""
    return {
        name: results["tasks"][task]["metrics"][metric]["value"]
        for name, (task, metric) in NUMBERS.items()
        if task in results["tasks"] and metric in results["tasks"][task]["metrics"]
    }


def describe(folders: dict[str, Path]) -> dict[str, Any]:
    """Return what the summary rests on: models and data of the evaluations, with hashes."""
    inputs = {stage: (read_lineage(folder) or {})["inputs"] for stage, folder in folders.items()}
    return {
        "stage": "evaluation",
        "options": {},
        "models": {stage: value["base"] for stage, value in inputs.items()},
        "data": {name: sha for value in inputs.values() for name, sha in value["data"].items()},
    }


def seconds_of(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the seconds that each stage and merge took, as their COMPLETE files say."""
    seconds = {}
    for stage in STAGES[1:]:
        merged = Path(results[stage]["model"]["path"])
        trained = merged.with_name(merged.name.replace("-merged", "-v1"))
        for name, folder in ((stage, trained), (f"{stage}_merge", merged)):
            if (folder / COMPLETE_FILE).exists():
                seconds[name] = read_json(folder / COMPLETE_FILE)["seconds"]
    return {**seconds, "total": round(sum(seconds.values()), 1)}


def print_numbers(found: dict[str, dict[str, float]]) -> None:
    """Print one line per model."""
    names = [name for name in NUMBERS if any(name in numbers for numbers in found.values())]
    table = Table(title="on held-out data")
    for title in ("model", *(name.replace("_", " ") for name in names)):
        table.add_column(title, justify="right")
    for stage, numbers in found.items():
        units = ("perplexity" if name.startswith("perplexity") else "fraction" for name in names)
        shown = [show(numbers.get(name), unit) for name, unit in zip(names, units, strict=True)]
        table.add_row(stage, *shown)
    print_wide(table)


if __name__ == "__main__":
    run_script(main)
