"""Which training records hold which evaluation items: counts, `matches.jsonl`, and the refusal."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medtune.common.errors import DataError
from medtune.common.files import write_lines
from medtune.data.reading import MAX_ERRORS_SHOWN
from medtune.data.records import Source

MATCHES_FILE = "matches.jsonl"

MatchKind = Literal["question", "overlap"]


@dataclass(frozen=True, slots=True)
class Match:
    """A training record that holds an evaluation item.

    kind: "question" if the item is there word for word (score 1), "overlap" if most of it is.
    score: the share (0-1) of the item's letters and digits that the record has.
    """

    source: Source
    eval_source: Source
    kind: MatchKind
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return the line that stands for it in matches.jsonl: places and numbers, no text."""
        return {
            "file": self.source.path,
            "line": self.source.line,
            "eval_file": self.eval_source.path,
            "eval_line": self.eval_source.line,
            "kind": self.kind,
            "score": round(self.score, 3),
        }

    def __str__(self) -> str:
        """Return one line of a message."""
        return f"{self.source} holds {self.eval_source} ({self.kind}, {self.score:.2f})"


@dataclass
class ContaminationReport:
    """What was checked and what was found.

    items_per_file: the number of items of each evaluation file.
    max_contaminated_percentage: records in a hundred that may match before `check` refuses.
    """

    items_per_file: dict[str, int]
    max_contaminated_percentage: float = 0.0
    rows_checked: int = 0
    rows_contaminated: int = 0
    matches: list[Match] = field(default_factory=list)

    def add(self, matches: list[Match]) -> None:
        """Count one record with what it matches, which may be nothing."""
        self.rows_checked += 1
        self.rows_contaminated += bool(matches)
        self.matches += matches

    def counts(self) -> dict[str, Any]:
        """Return the counts of rows, and for each evaluation file its items and those found.

        rows_question and rows_overlap count training rows; a row with both counts as the first.
        """
        found: dict[str, set[Source]] = {path: set() for path in self.items_per_file}
        rows: dict[tuple[str, MatchKind], set[Source]] = {}
        for match in self.matches:
            path = match.eval_source.path
            found[path].add(match.eval_source)
            rows.setdefault((path, match.kind), set()).add(match.source)
        files = {}
        for path, num_items in self.items_per_file.items():
            question = rows.get((path, "question"), set())
            files[path] = {
                "items": num_items,
                "rows_found": len(found[path]),
                "training_rows_question": len(question),
                "training_rows_overlap": len(rows.get((path, "overlap"), set()) - question),
            }
        return {
            "rows_checked": self.rows_checked,
            "rows_contaminated": self.rows_contaminated,
            "evaluation_files": files,
        }

    def write_matches(self, path: Path) -> None:
        """Write a line for each match, whole or not at all; no line says no match."""
        write_lines(path, (match.to_dict() for match in self.matches))

    def check(self, remedy: str = f"all are listed in {MATCHES_FILE}") -> None:
        """Raise DataError if more records match than are allowed."""
        allowed = self.rows_checked * self.max_contaminated_percentage / 100
        if self.rows_contaminated <= allowed:
            return
        shown = "\n".join(f"  {match}" for match in self.matches[:MAX_ERRORS_SHOWN])
        more = len(self.matches) - MAX_ERRORS_SHOWN
        files = "\n".join(
            f"  {path}: {count['rows_found']:,} rows ({count['items']:,} items in the file)"
            for path, count in self.counts()["evaluation_files"].items()
            if count["rows_found"]
        )
        raise DataError(
            f"{self.matches[0].source}: expected training data without evaluation items, found "
            f"the one at {self.matches[0].eval_source}\n{self.rows_contaminated:,} contaminated "
            f"rows of {self.rows_checked:,}, at most {self.max_contaminated_percentage:g}% may be:"
            f"\n{shown}"
            + f"\n  and {more:,} more"
            * (more > 0)
            + f"\nfound of the evaluation files:\n{files}\nRemove these training rows "
            f"({remedy}), evaluate on other items, or raise --max_contaminated_percentage."
        )
