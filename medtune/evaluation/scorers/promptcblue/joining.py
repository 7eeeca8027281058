"""Gold rows and predictions brought together by sample_id, as items with their counts.

A gold row must be right; a prediction may be anything, and what it is instead is counted.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medtune.common.errors import ConfigError, DataError
from medtune.data.records import Source
from medtune.evaluation.scorers.promptcblue.measure import Counts
from medtune.evaluation.scorers.promptcblue.reading import (
    GENERATIONS,
    MODES,
    OFFICIAL,
    STRICT,
    Malformed,
    Parsed,
    Reading,
)
from medtune.evaluation.scorers.promptcblue.tasks import (
    TASKS,
    counts,
    generation_of,
    listed_choices,
    parse,
    read,
)

TASK, ID, CHOICES, TEXT, ANSWER = (
    "task_dataset",
    "sample_id",
    "answer_choices",
    "target",
    "answer",
)
# In this order: a row that holds both often keeps the gold text in `target`.
TEXT_FIELDS = ("prediction", "predict", "output", TEXT)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One sample of the benchmark with what was predicted for it."""

    task: str
    sample_id: str
    gold: Any
    """The structure of the gold text."""
    parsed: Parsed
    counts: Counts
    is_missing: bool = False
    """True if no prediction has its id; it counts as an empty text."""


@dataclass(frozen=True)
class Options:
    """How rows are read, and where those of gold stand."""

    mode: str = OFFICIAL
    generation: str | None = None
    """head or 2023-05; None takes the one that the gold rows are of."""
    sources: Sequence[Source] = ()
    """Of each gold row, for messages; without any they are called gold:1, gold:2, ..."""

    def __post_init__(self) -> None:
        """Raise ConfigError if the mode or the generation is unknown."""
        check_choice("mode", self.mode, MODES)
        if self.generation is not None:
            check_choice("generation", self.generation, GENERATIONS)

    def source_of(self, place: int) -> Source:
        """Return where the gold row of this place, counted from 0, stands."""
        return self.sources[place] if self.sources else Source("gold", place + 1)

    def generation_of(self, gold_rows: Iterable[Any]) -> str:
        """Return the generation that was asked for, or that of the rows."""
        tasks = (str(row.get(TASK)) for row in gold_rows if isinstance(row, dict))
        return self.generation or generation_of(tasks)


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raise ConfigError if a value is not one of those known."""
    if value not in known:
        raise ConfigError(f"{name}: expected one of {', '.join(known)}, found {value!r}")


class Predictions:
    """Rows of predictions by id; of several rows for one sample the first one counts."""

    def __init__(self, rows: Iterable[Any]) -> None:
        """Take any rows; one without a usable id is never found."""
        self.num_rows = 0
        self.used: set[int] = set()
        self.num_repeated = 0
        """Rows after the first of their id and task; a part of the unused ones."""
        seen: set[tuple[str, str]] = set()
        self.by_id: dict[str, list[tuple[int, Row]]] = defaultdict(list)
        for number, row in enumerate(rows):
            self.num_rows += 1
            if isinstance(row, dict) and isinstance(row.get(ID), str | int):
                self.by_id[str(row[ID])].append((number, row))
                key = (task_named(row), str(row[ID]))
                self.num_repeated += key in seen
                seen.add(key)

    @property
    def num_unused(self) -> int:
        """Rows without a usable id, of no gold row, or after the first of their id."""
        return self.num_rows - len(self.used)

    def find(self, task: str, sample_id: str) -> Row | None:
        """Return the prediction for a sample: of its task, or of no task that is known."""
        for number, row in self.by_id.get(sample_id, ()):
            if task_named(row) in (task, ""):
                self.used.add(number)
                return row
        return None


def task_named(row: Row) -> str:
    """Return the task that a prediction says it is of, "" for none that is known."""
    own = row.get(TASK)
    return own if isinstance(own, str) and own in TASKS else ""


def join(gold_rows: Sequence[Any], predictions: Predictions, options: Options) -> Iterator[Item]:
    """Yield an item for each gold row, in their order.

    Raises DataError at a gold row that cannot be used or that repeats an id.
    """
    generation = options.generation_of(gold_rows)
    if not gold_rows:
        raise DataError("gold: no rows, expected at least one; check the file")
    places: dict[tuple[str, str], int] = {}
    for place, row in enumerate(gold_rows):
        where = str(options.source_of(place))
        task, sample_id = checked_key(row, where)
        first = places.setdefault((task, sample_id), place)
        if first != place:
            raise DataError(
                f"{where}: sample_id {sample_id!r} of {task} was seen in "
                f"{options.source_of(first)}, expected each once; remove one of the two rows"
            )
        gold = gold_answer(task, row, generation, options.mode == STRICT, where)
        found = predictions.find(task, sample_id)
        parsed = predicted_answer(task, row, found, generation, options.mode)
        item_counts = counts(task, gold, parsed.answer, options.mode)
        yield Item(task, sample_id, gold, parsed, item_counts, is_missing=found is None)


def checked_key(row: Any, where: str) -> tuple[str, str]:
    """Return task and id of a gold row. Raises DataError if one of them is missing or unknown."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, found {type(row).__name__}")
    task, sample_id = row.get(TASK), row.get(ID)
    if not isinstance(task, str) or task not in TASKS:
        raise DataError(
            f"{where}: {TASK}: expected a task of PromptCBLUE, found {task!r}; it has "
            f"{', '.join(TASKS)}"
        )
    if not isinstance(sample_id, str | int):
        raise DataError(f"{where}: {ID}: expected a text, found {sample_id!r}")
    return task, str(sample_id)


def gold_answer(task: str, row: Row, generation: str, is_strict: bool, where: str) -> Any:
    """Return the structure of a gold row. Raises DataError if it has none."""
    measure = TASKS[task].measure
    reading = Reading(listed_choices(row.get(CHOICES)), generation, is_strict)
    if TEXT not in row and ANSWER in row:
        answer = row[ANSWER]
        if not measure.is_answer(answer):
            raise DataError(f"{where}: {ANSWER}: not the structure of an answer of {task}")
    elif not isinstance(row.get(TEXT), str):
        raise DataError(f"{where}: {TEXT}: expected a text, found {row.get(TEXT)!r}")
    else:
        try:
            answer = read(task, row[TEXT], reading)
        except Malformed as reason:
            raise DataError(f"{where}: no gold answer of {task}: {reason}; mend it") from reason
    if is_strict and measure.is_empty_gold(answer):  # the official code makes a class of it
        raise DataError(f"{where}: {TEXT}: expected a label of {task}, found an empty text")
    return answer


def predicted_answer(task: str, row: Row, found: Row | None, generation: str, mode: str) -> Parsed:
    """Return what was predicted for a gold row.

    The official parser reads the choices that stand in the predictions file, if any do.
    """
    trusted = {CHOICES: listed_choices(row.get(CHOICES))}
    if found is None:
        return parse(task, trusted, "", generation, mode)
    names = [name for name in TEXT_FIELDS if name in found]
    if not names and ANSWER in found:
        is_answer = TASKS[task].measure.is_answer(found[ANSWER])
        return Parsed(found[ANSWER]) if is_answer else Parsed(None, f"{ANSWER}: not of its shape")
    own = {CHOICES: found[CHOICES]} if CHOICES in found and mode == OFFICIAL else trusted
    return parse(task, own, found[names[0]] if names else None, generation, mode)
