"""What `evaluation.py` wrote about one model: its numbers, and the answers it gave."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtune.common.errors import ConfigError
from medtune.common.lineage import is_complete, lineage_file_of
from medtune.report.documents import Document, read_document, read_lines
from medtune.report.texts import Words, label

RESULTS, SAMPLES = "results.json", "samples"
STAGES = ("base", "pt", "sft", "dpo")
REPLIES, SAFETY = "replies", "safety"  # tasks of which the page shows more than the numbers
CATEGORY = "category"  # how the probes are grouped


@dataclass(frozen=True)
class Measure:
    """One metric of one task. low, high: 95 % interval.   chance: what guessing reaches."""

    value: float | None
    low: float | None
    high: float | None
    chance: float | None
    higher_is_better: bool | None
    unit: str
    num_items: float | None


@dataclass(frozen=True)
class Task:
    """The numbers of one task. groups: measures by kind of group, then group, then metric.

    malformed: answers that could not be read.   truncated: prompts that lost their beginning.
    """

    num_items: float | None
    malformed: float | None
    truncated: float | None
    metrics: dict[str, Measure]
    groups: dict[str, dict[str, dict[str, Measure]]]

    @property
    def leading(self) -> str | None:
        """The metric that stands for the task: the first; None if there is none."""
        return next(iter(self.metrics), None)


@dataclass(frozen=True)
class Evaluation:
    """One folder of `evaluation.py`. name: the model's stage if it is known, else the folder's."""

    folder: Path
    name: str
    results: Document
    tasks: dict[str, Task]
    is_finished: bool

    @property
    def title(self) -> Words:
        """What the model is called on the page."""
        return label("model", self.name)

    @property
    def model_path(self) -> str:
        """Where the model was when it was evaluated."""
        return self.results.text("model", "path") or ""

    @property
    def adapter(self) -> str | None:
        """The adapter that was evaluated on it."""
        return self.results.text("model", "adapter")

    def samples(self, task: str) -> "Iterator[Sample]":
        """Yield the items of a task; none if it was not run. Raises DataError with `file:line`."""
        path = self.folder / SAMPLES / f"{task}.jsonl"
        if path.is_file():
            for line, value in read_lines(path, is_being_written=not self.is_finished):
                yield build_sample(Document(Path(f"{path}:{line}"), value))


@dataclass(frozen=True)
class Sample:
    """One item and what the model made of it. output: None where nothing was generated."""

    id: str
    prompt: str
    output: str | None
    gold: str
    malformed: str | None
    counts: dict[str, float]
    groups: dict[str, Any] = field(default_factory=dict)


def read_evaluation(folder: str | Path) -> Evaluation | None:
    """Return what is in a folder, None if its evaluation has not got as far as results.

    Raises ConfigError for a folder that no evaluation wrote, CheckpointError for damaged results.
    """
    path = Path(folder)
    if not (path / RESULTS).is_file():
        if lineage_file_of(path).is_file() or (path / SAMPLES).is_dir():
            return None
        raise ConfigError(
            f"{path}: expected a folder that evaluation.py wrote, found no {RESULTS} in it."
        )
    results = read_document(path / RESULTS)
    tasks = {name: build_task(results, name) for name in results.mapping("tasks")}
    for key in ("path", "adapter", "stage"):
        results.text("model", key)  # what is damaged is said before anything else is read
    return Evaluation(path, path.name, results, tasks, is_complete(path))


def build_task(results: Document, name: str) -> Task:
    """Return the numbers of one task. Raises CheckpointError for a value of the wrong type."""
    where = ("tasks", name)
    groups = {
        kind: {
            group: build_measures(results, (*where, "groups", kind, group, "metrics"))
            for group in results.mapping(*where, "groups", kind)
        }
        for kind in results.mapping(*where, "groups")
    }
    num_items, malformed, truncated = (
        results.number(*where, key) for key in ("num_items", "malformed", "truncated")
    )
    metrics = build_measures(results, (*where, "metrics"))
    return Task(num_items, malformed, truncated, metrics, groups)


def build_measures(results: Document, where: tuple[str, ...]) -> dict[str, Measure]:
    """Return the metrics at a place by name."""
    return {name: build_measure(results, (*where, name)) for name in results.mapping(*where)}


def build_measure(results: Document, where: tuple[str, ...]) -> Measure:
    """Return one metric. Raises CheckpointError for a value of the wrong type."""
    value, low, high, chance, num_items = (
        results.number(*where, key) for key in ("value", "low", "high", "chance", "num_items")
    )
    found = results.find(*where, "higher_is_better")
    is_better = found if isinstance(found, bool) else None
    unit = results.text(*where, "unit") or "fraction"
    return Measure(value, low, high, chance, is_better, unit, num_items)


def build_sample(row: Document) -> Sample:
    """Return one item. Raises CheckpointError for a value of the wrong type."""
    prompt, gold, output = row.find("prompt"), row.find("gold"), row.find("output")
    return Sample(
        id=str(row.find("id")),
        prompt=as_text(prompt),
        output=None if output is None else as_text(output),
        gold=as_text(gold),
        malformed=row.text("malformed"),
        counts=row.counts("counts"),
        groups=row.mapping("groups"),
    )


def as_text(value: Any) -> str:
    """Return a prompt or a right answer as text; of messages, each after its role."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, dict) and "content" in one for one in value):
        if len(value) == 1:
            return str(value[0]["content"])
        return "\n".join(f"[{one.get('role', '')}] {one['content']}" for one in value)
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    return str(value)
