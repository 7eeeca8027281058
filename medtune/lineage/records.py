"""One `lineage.json` as an object: what was made, from which models and data, and where it lies."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError
from medtune.common.files import read_object
from medtune.common.lineage import (
    COMPLETE_FILE,
    LINEAGE_FILE,
    combine_weights,
    lineage_file_of,
)

EVALUATION = "evaluation"
LEDGER_FILE = "ledger.json"


@dataclass(frozen=True)
class Reference:
    """A model or an adapter that something was made from, as it was then.

    sha256: over its weight files, None for a hub name.   parent: of its own lineage.json.
    """

    role: str
    path: str
    sha256: str | None
    parent: str | None


@dataclass(frozen=True)
class Record:
    """The lineage of one folder, or of one summary.

    output: the folder or the summary.   file: its lineage.   complete: what `COMPLETE` says, None
    where there is none.   changes: what was allowed to differ when the run was continued.
    """

    output: Path
    file: Path
    inputs: dict[str, Any]
    outputs: dict[str, str]
    code: dict[str, Any]
    packages: dict[str, Any]
    complete: dict[str, Any] | None
    changes: list[str] = field(default_factory=list)

    @property
    def stage(self) -> str:
        """What kind of work this was: a stage's name, `merge` or `evaluation`."""
        return str(self.inputs["stage"])

    @property
    def is_finished(self) -> bool:
        """True if its writer reached the end; a summary is written at the end."""
        return self.complete is not None or self.file.name != LINEAGE_FILE

    @property
    def folder(self) -> Path:
        """Where the files lie that `outputs` names."""
        return self.file.parent

    @property
    def data(self) -> dict[str, str]:
        """SHA-256 of each data file, by its path as the user gave it."""
        return self.inputs.get("data", {})

    @property
    def options(self) -> dict[str, Any]:
        """The options that change what is learnt or measured."""
        return self.inputs.get("options", {})

    @property
    def certified(self) -> dict[str, str]:
        """SHA-256 of the files that `COMPLETE` vouches for, lineage.json among them."""
        return (self.complete or {}).get("sha256", {})

    @property
    def weights(self) -> str:
        """What others name these weights by, worked out from the recorded hashes."""
        return combine_weights(self.outputs)

    def references(self) -> list[Reference]:
        """Return the models that this was made from or measures, what changed them first."""
        base = self.inputs.get("base")
        found = [("adapter", adapter) for adapter in self.inputs.get("adapters", [])]
        if base:
            found += [("adapter", base["adapter"])] if "adapter" in base else []
            found.append(("base", base))
        found += list(self.inputs.get("models", {}).items())
        return [
            Reference(role, value["path"], value.get("sha256"), value.get("parent"))
            for role, value in found
        ]

    def read_ledger(self) -> dict[str, Any]:
        """Return the ledger of rows and tokens, empty where there is none.

        Raises CheckpointError if it does not have its form.
        """
        path = self.folder / LEDGER_FILE
        has_ledger = self.stage not in ("merge", EVALUATION) and path.exists()
        ledger = read_object(path) if has_ledger else {}
        files = ledger.get("files", [])
        if not isinstance(files, list) or not all("path" in file for file in files):
            raise CheckpointError(f"{path}: expected `files` with a `path` each, found another.")
        return ledger


def find_record(output: str | Path) -> Record | None:
    """Return the record of a folder or summary, None where nothing says what it was made from."""
    path = Path(output)
    if path.name == LINEAGE_FILE:
        path = path.parent
    file = lineage_file_of(path)
    return read_record(file, path) if file.is_file() else None


def read_record(file: Path, output: Path) -> Record:
    """Return what a lineage says. Raises CheckpointError if it does not have its form."""
    value = read_object(file)
    complete = file.parent / COMPLETE_FILE
    is_folder = file.name == LINEAGE_FILE
    record = Record(
        output=output,
        file=file,
        inputs=value.get("inputs", {}),
        outputs=value.get("outputs", {}),
        code=value.get("code", {}),
        packages=value.get("packages", {}),
        complete=read_object(complete) if is_folder and complete.is_file() else None,
        changes=value.get("changes", []),
    )
    if not has_form(record):
        raise CheckpointError(
            f"{file}: expected the lineage of a stage, a merge or an evaluation, found another "
            "JSON object. It was not written by medtune, or was changed since."
        )
    return record


def has_form(record: Record) -> bool:
    """True if all that is read of a record has the type that it must have."""
    parts = (record.inputs, record.outputs, record.code, record.packages)
    if not all(isinstance(part, dict) for part in parts) or "stage" not in record.inputs:
        return False
    if not isinstance(record.changes, list):
        return False
    if not all(isinstance(part, dict) for part in (record.data, record.options, record.certified)):
        return False
    if not isinstance(record.inputs.get("tokenizer", {}), dict):
        return False
    try:
        references = record.references()
    except (TypeError, KeyError, AttributeError):
        return False
    hashes = [
        value for part in (record.data, record.outputs, record.certified) for value in part.values()
    ]
    hashes += [reference.path for reference in references]
    optional = [value for r in references for value in (r.sha256, r.parent) if value is not None]
    return all(isinstance(value, str) for value in [*hashes, *optional])


def load_record(output: str | Path) -> Record:
    """Return the record of what a user names. Raises CheckpointError: none there, or unfinished."""
    path = Path(output)
    if not path.exists():
        raise CheckpointError(
            f"{path}: expected the folder of a stage or a merge, or a summary, found nothing."
        )
    record = find_record(path)
    if record is None:
        raise CheckpointError(
            f"{path}: expected a folder that a stage or a merge wrote, or a summary, found no "
            f"{lineage_file_of(path)}: nothing says what it was made from."
        )
    check_finished(record)
    return record


def check_finished(record: Record) -> None:
    """Raise CheckpointError for a folder whose writer did not reach its end."""
    if not record.is_finished:
        raise CheckpointError(
            f"{record.output}: expected a finished folder, found one without {COMPLETE_FILE}: the "
            "run that writes it was interrupted. Run that command again: it continues where it "
            "stopped."
        )
