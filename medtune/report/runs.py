"""The folders that stages and merges wrote, finished or not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.common.lineage import COMPLETE_FILE
from medtune.lineage.records import Record
from medtune.report.documents import Document, read_document, read_lines
from medtune.report.texts import Words, label

MERGE = "merge"
SHORT_NAMES = {
    "pretraining": "pt",
    "supervised fine-tuning": "sft",
    "preference optimisation": "dpo",
}


@dataclass(frozen=True)
class Run:
    """One folder by its lineage."""

    record: Record

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.record.folder

    @property
    def is_training(self) -> bool:
        """True for a stage, False for a merge."""
        return self.record.stage != MERGE

    @property
    def title(self) -> Words:
        """What the stage is called in short."""
        return label("model", self.name)

    @property
    def work(self) -> Words:
        """What the stage is called in full."""
        return label("stage", self.name)

    @property
    def name(self) -> str:
        """The short name of its stage: pt, sft, dpo or merge."""
        return SHORT_NAMES.get(self.record.stage, self.record.stage)

    @property
    def complete(self) -> Document:
        """What COMPLETE says; empty for an unfinished run."""
        return Document(self.folder / COMPLETE_FILE, self.record.complete or {})

    def read(self, name: str) -> Document:
        """Return a JSON file of the folder, empty if it is not there. Raises CheckpointError."""
        return read_document(self.folder / name)

    def lines(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the numbered rows of a JSON lines file; none if it is not there."""
        path = self.folder / name
        if path.is_file():
            yield from read_lines(path, is_being_written=not self.record.is_finished)
