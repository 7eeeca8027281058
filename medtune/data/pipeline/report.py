"""datatrove's statistics of all tasks as one report.json that balances."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from medtune.common.errors import ConfigError, DataError
from medtune.common.files import write_json
from medtune.data.curation.options import PrepareArguments
from medtune.data.curation.report import PARTS
from medtune.data.curation.sets import REPORT
from medtune.data.pipeline.steps import (
    FOUND,
    MALFORMED,
    READ,
    REJECTED,
    EvaluationItems,
    RecordReader,
)
from medtune.data.pipeline.writers import OTHER, SetsWriter

DROPPED = "dropped_"
DUPLICATES = {"exact-deduplication": "exact_duplicate", "MinHash": "near_duplicate"}
Totals = dict[str, Counter[str]]


def write_report(arguments: PrepareArguments, logging_dir: str) -> dict[str, Any]:
    """Write OUTPUT/report.json from the statistics of the run that wrote the sets; return it.

    logging_dir: that of the executor, on a file system that is mounted here.
    Raises ConfigError while tasks are not finished; DataError, with the report written, for
    malformed rows, too many rows with evaluation items, or nothing that is usable.
    """
    totals = read_totals(Path(logging_dir))
    reader, writer = (named(totals, step.name) for step in (RecordReader, SetsWriter))
    rejected = rejected_by_reason(totals)
    kept, read = writer["total"], reader[READ]
    assert read == kept + rejected.total(), f"read {read}, kept {kept}, rejected {rejected}"
    report = {
        "rows": {"read": read, "kept": kept, "rejected": dict(rejected)},
        "parts": {part: writer[f"{part}/XXXXX.jsonl"] for part in PARTS},
        "patients_data": dict(with_prefix(totals, FOUND)),
    }
    write_json(Path(arguments.output) / REPORT, report)
    check(arguments, reader, named(totals, EvaluationItems.name), kept)
    return report


def read_totals(logging_dir: Path) -> Totals:
    """Return the sums of all tasks, by step. ConfigError if some of them are not there."""
    files = sorted((logging_dir / "stats").glob("*.json"))
    settings = logging_dir / "executor.json"
    tasks = json.loads(settings.read_text())["world_size"] if settings.is_file() else None
    if not files or tasks not in (None, len(files)):
        raise ConfigError(
            f"{logging_dir}: expected statistics of {tasks or 'all'} tasks, found those of "
            f"{len(files)}; run the same script again, it does what is not done."
        )
    totals: Totals = {}
    for file in files:
        for step in json.loads(file.read_text(encoding="utf-8")):
            counts = totals.setdefault(step["name"], Counter())
            for name, value in step["stats"].items():
                counts[name] += value["total"] if isinstance(value, dict) else value
    return totals


def named(totals: Totals, name: str) -> Counter[str]:
    """Return the counts of a step; none if the pipeline does not have it."""
    return sum((counts for step, counts in totals.items() if name in step), Counter())


def rejected_by_reason(totals: Totals) -> Counter[str]:
    """Return how many rows were left out, those of datatrove's own steps included."""
    rejected = with_prefix(totals, REJECTED) + with_prefix(totals, DROPPED)
    for step, counts in totals.items():
        unnamed = counts["dropped"] - prefixed(counts, DROPPED).total()
        reason = next((reason for sign, reason in DUPLICATES.items() if sign in step), OTHER)
        rejected += Counter({reason: unnamed})
    return rejected


def with_prefix(totals: Totals, prefix: str) -> Counter[str]:
    """Return the counts of all steps whose name has a prefix, without it."""
    return sum((prefixed(counts, prefix) for counts in totals.values()), Counter())


def prefixed(counts: Counter[str], prefix: str) -> Counter[str]:
    """Return the counts whose name has a prefix, without it."""
    found = {name: count for name, count in counts.items() if name.startswith(prefix)}
    return Counter({name.removeprefix(prefix): count for name, count in found.items()})


def check(
    arguments: PrepareArguments, reader: Counter[str], items: Counter[str], kept: int
) -> None:
    """Raise DataError for what prepare_data.py ends with exit code 2 for."""
    rejects = Path(arguments.output) / "rejects"
    malformed, rows = reader[MALFORMED], reader[READ]
    if malformed and not arguments.skip_malformed:
        raise DataError(
            f"{rejects}: expected rows in a known format, found {malformed:,} malformed ones of "
            f"{rows:,}; mend the files, or set skip_malformed."
        )
    hits, checked = items[f"{DROPPED}contaminated"], items["total"]
    if hits > checked * arguments.max_contaminated_percentage / 100:
        raise DataError(
            f"{rejects}: expected training data without evaluation items, found {hits:,} rows of "
            f"{checked:,} with one; remove them from the input, or raise "
            "max_contaminated_percentage."
        )
    if not kept:
        raise DataError(
            f"{rejects}: expected usable rows, found none of {rows:,}; the files there name each."
        )
