"""What came of the files: rows read, kept and left out by reason, which balance for each file."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from medtune.data.curation.options import PrepareArguments

PARTS = ("train", "validation", "test")


@dataclass
class FileReport:
    """What came of one file. format, kind and encoding: as found, or as the user said."""

    path: str
    format: str
    kind: str
    encoding: str | None
    rows_read: int = 0
    rows_kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    patients_data: Counter[str] = field(default_factory=Counter)  # findings by kind

    def check(self) -> None:
        """AssertionError if the rows do not balance."""
        assert self.rows_read == self.rows_kept + self.rejected.total(), (
            f"{self.path} is unbalanced"
        )


@dataclass
class CurationReport:
    """What came of all files; `parts` counts the rows of each set.

    hygiene, contamination: what those modules counted.
    """

    files: list[FileReport] = field(default_factory=list)
    parts: Counter[str] = field(default_factory=Counter)
    hygiene: dict[str, Any] = field(default_factory=dict)
    contamination: dict[str, Any] | None = None
    lengths: dict[str, Counter[int]] = field(  # rows by their number of characters
        default_factory=lambda: {part: Counter() for part in PARTS}
    )

    def to_dict(self, arguments: PrepareArguments) -> dict[str, Any]:
        """Return what report.json holds."""
        rejected: Counter[str] = sum((file.rejected for file in self.files), Counter())
        return {
            "files": [
                vars(f) | {"rejected": dict(f.rejected), "patients_data": dict(f.patients_data)}
                for f in self.files
            ],
            "rows": {
                "read": sum(file.rows_read for file in self.files),
                "kept": sum(file.rows_kept for file in self.files),
                "rejected": dict(rejected),
            },
            "parts": {part: self.parts[part] for part in PARTS},
            "hygiene": self.hygiene,
            "contamination": self.contamination,
            "options": asdict(arguments),
        }
