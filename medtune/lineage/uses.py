"""What each data file was used for, and which models come of a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError
from medtune.common.files import sha256_of_file
from medtune.common.lineage import LINEAGE_FILE
from medtune.common.log import logger
from medtune.lineage.records import EVALUATION, Record, read_record

COMPARED = "compared with"
MEASURED = "measured on"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class DataUse:
    """One data file in one stage.

    used_for: training, validation, both, mixed in, `compared with` (--eval_files: kept out of the
    rows), `measured on`, or unknown for a stage that kept no ledger of files.
    rows_read, rows_trained, tokens: None where nobody counted; tokens: trained on in one epoch.
    """

    stage: str
    output: str
    path: str
    sha256: str
    used_for: str
    rows_read: int | None
    rows_trained: int | None
    tokens: int | None


def find_uses(record: Record) -> list[DataUse]:
    """Return what a stage or an evaluation used each of its data files for."""
    ledger = record.read_ledger()
    entries = {entry["path"]: entry for entry in ledger.get("files", [])}
    return [
        build_use(record, path, sha256, entries.get(path), has_ledger="files" in ledger)
        for path, sha256 in record.data.items()
    ]


def build_use(
    record: Record, path: str, sha256: str, entry: dict[str, Any] | None, has_ledger: bool
) -> DataUse:
    """Return the use of one file. entry: what the ledger says of it; None: it says nothing."""
    same = {"stage": record.stage, "output": str(record.output), "path": path, "sha256": sha256}
    if record.stage == EVALUATION:
        rows = record.inputs.get("rows", {}).get(path)
        return DataUse(**same, used_for=MEASURED, rows_read=rows, rows_trained=0, tokens=0)
    if entry is None:
        used_for = COMPARED if has_ledger else UNKNOWN
        count = 0 if has_ledger else None
        return DataUse(**same, used_for=used_for, rows_read=None, rows_trained=count, tokens=count)
    names = {"train": "training", "mixed": "mixed in", "validation": "validation"}
    used = [name for key, name in names.items() if entry.get(key)]
    # How much an epoch draws of what is mixed in is counted by folder, not by file.
    is_drawn = entry.get("mixed", 0) > 0
    return DataUse(
        **same,
        used_for=" and ".join(used) or "nothing",
        rows_read=entry.get("read"),
        rows_trained=None if is_drawn else entry.get("train"),
        tokens=None if is_drawn else entry.get("tokens", {}).get("train", {}).get("kept", 0),
    )


def find_records(folder: Path) -> tuple[list[Record], list[str]]:
    """Return every record below a folder, by path, and what is wrong with those left out."""
    records, problems = [], []
    for file in sorted({*folder.rglob(LINEAGE_FILE), *folder.rglob(f"*.{LINEAGE_FILE}")}):
        try:
            records.append(read_record(file, output_of(file)))
        except CheckpointError as error:  # one damaged folder says nothing of the others
            problems.append(str(error))
    return records, problems


def output_of(file: Path) -> Path:
    """Return what a lineage file is the lineage of."""
    if file.name == LINEAGE_FILE:
        return file.parent
    return file.with_name(file.name.removesuffix(f".{LINEAGE_FILE}") + ".json")


@dataclass(frozen=True)
class Sighting:
    """One output that saw a file: itself (`use`), or through a model it was made from (`via`)."""

    record: Record
    use: DataUse | None
    via: Record | None


def find_sightings(records: list[Record], sha256: str) -> list[Sighting]:
    """Return who used a file of this content, then who was made from a model that learnt from it.

    Models are told by their hashes. Validation and evaluation teach nothing: what was only
    measured on the file has no descendants here.
    """
    direct = [
        Sighting(record, use, None)
        for record in records
        for use in uses_or_none(record)
        if use.sha256 == sha256
    ]
    learnt = [seen.record for seen in direct if seen.use is not None and is_learnt(seen.use)]
    taught = {id(record) for record in learnt}
    descended = list(find_descendants(records, learnt, taught))
    return direct + descended


def uses_or_none(record: Record) -> list[DataUse]:
    """Return the uses of a record; none, with a warning, if its ledger is damaged."""
    try:
        return list(find_uses(record))
    except CheckpointError as error:
        logger.warning("not looked into: %s", error)
        return []


def is_learnt(use: DataUse) -> bool:
    """True if rows of the file were trained on, or if nobody can say that they were not."""
    return use.used_for == UNKNOWN or use.rows_trained is None or use.rows_trained > 0


def find_descendants(
    records: list[Record], parents: list[Record], taught: set[int]
) -> Iterator[Sighting]:
    """Yield each record that rests on one of `parents`, nearest first. taught: ids of all known."""
    while parents:
        children = []
        for parent in parents:
            own = sha256_of_file(parent.file)
            for record in records:
                if id(record) not in taught and rests_on(record, parent, own):
                    taught.add(id(record))
                    children.append(record)
                    yield Sighting(record, None, parent)
        parents = children


def rests_on(record: Record, parent: Record, lineage_sha256: str) -> bool:
    """True if a record names `parent`, by its lineage or by its weights."""
    return parent.is_finished and any(
        reference.parent == lineage_sha256
        or (bool(parent.outputs) and reference.sha256 == parent.weights)
        for reference in record.references()
    )
