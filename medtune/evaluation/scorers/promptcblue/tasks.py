"""The table of PromptCBLUE's tasks, and what is done with one item of any of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from medtune.evaluation.results.statistics import Metric
from medtune.evaluation.scorers.promptcblue import extraction, reports, trees
from medtune.evaluation.scorers.promptcblue.classification import (
    label_measure,
    read_label,
    read_sameness,
)
from medtune.evaluation.scorers.promptcblue.measure import Counts, Measure
from medtune.evaluation.scorers.promptcblue.reading import (
    HEAD,
    MAY_2023,
    OFFICIAL,
    STRICT,
    Malformed,
    Parsed,
    Reading,
    literal,
)
from medtune.evaluation.scorers.promptcblue.tuples import MICRO_F1

CMEIE = "CMeIE"
MAX_REPLACED = 100  # half-width characters of one kind that the parser of 2023-05 turned
FULL_WIDTH = {":": "：", ",": "，", ";": "；"}


@dataclass(frozen=True)
class Task:
    """One task: how its texts are read and how its structures are scored."""

    read: Callable[[str, Reading], Any]
    measure: Measure
    is_new: bool = False
    """True if the parser of 2023-05 did not know it; such a task is always read as at head."""


def labelled(first_label: str, is_macro: bool = False) -> Task:
    """Return a task whose answer is one label."""
    return Task(partial(read_label, first_label), label_measure(first_label, is_macro))


TASKS: dict[str, Task] = {
    "CMeEE-V2": Task(extraction.read_entities, MICRO_F1),
    CMEIE: Task(extraction.read_relations, MICRO_F1),
    "CMeIE-V2": Task(extraction.read_relations, MICRO_F1, is_new=True),
    "CHIP-CDN": Task(extraction.read_terms, MICRO_F1),
    "CHIP-CDEE": Task(extraction.read_events, MICRO_F1),
    "IMCS-V2-NER": Task(extraction.read_entities, MICRO_F1),
    "CHIP-MDCFNPC": Task(extraction.read_findings, MICRO_F1),
    "IMCS-V2-SR": Task(extraction.read_symptoms, MICRO_F1),
    "IMCS-V2-DAC": labelled("非上述类型", is_macro=True),
    "IMCS-V2-MRG": Task(reports.read_sections, reports.SECTION_ROUGE),
    "CHIP-CTC": labelled("非上述类型", is_macro=True),
    "CHIP-STS": Task(read_sameness, label_measure("是的", is_macro=False)),
    "KUAKE-IR": labelled("相关"),
    "KUAKE-QIC": labelled("非上述类型", is_macro=True),
    "KUAKE-QQR": labelled("完全一致"),
    "KUAKE-QTR": labelled("完全不匹配或者没有参考价值"),
    "MedDG": Task(reports.read_reply, reports.REPLY_ROUGE),
    "Text2DT": Task(trees.read_tree, trees.TREE_RATIO, is_new=True),
    "CMedCausal": Task(extraction.read_causal, MICRO_F1, is_new=True),
}


def generation_of(tasks: Iterable[str]) -> str:
    """Return the format generation of a set of rows: 2023-05 where the task CMeIE occurs."""
    return MAY_2023 if CMEIE in set(tasks) else HEAD


def parse(
    task: str, row: Mapping[str, Any], text: Any, generation: str = HEAD, mode: str = OFFICIAL
) -> Parsed:
    """Return a generated text as the structure of its task; no text makes it raise.

    row: the row of the benchmark, of which `answer_choices` is read.
    official: what the official parser makes of the text, None where it stops.
    strict: a text that is empty is None, one that is not among the choices stays as it is;
    choices in a string are read.
    """
    choices = row.get("answer_choices")
    reading = Reading(choices, generation, is_strict=mode == STRICT)
    try:
        if task == CMEIE and generation == HEAD:
            raise Malformed(f"the parser of {HEAD} knows no task {CMEIE}; {MAY_2023} does")
        if not isinstance(text, str):
            raise Malformed(f"expected a text, found {type(text).__name__}")
        if reading.is_strict:
            reading.choices = listed_choices(choices)
        if not text.strip():
            reading.unread.append("empty")
        answer = read(task, text, reading)
    except Malformed as reason:
        return Parsed(None, str(reason), tuple(reading.unread))
    is_refused = reading.is_strict and not text.strip()
    return Parsed(None if is_refused else answer, None, tuple(reading.unread))


def read(task: str, text: str, reading: Reading) -> Any:
    """Return the structure of a text. Raises Malformed where the official parser stops."""
    if reading.generation == MAY_2023 and not TASKS[task].is_new:
        for half, full in FULL_WIDTH.items():
            text = text.replace(half, full, MAX_REPLACED)
    return TASKS[task].read(text, reading)


def listed_choices(choices: Any) -> Any:
    """Return choices as a list also where a file holds them as the text of one."""
    if not isinstance(choices, str):
        return choices
    try:
        value = literal(choices)
    except Malformed:
        return choices  # a parser that needs them says so
    return list(value) if isinstance(value, list | tuple) else choices


def counts(task: str, gold_answer: Any, predicted: Any, mode: str = OFFICIAL) -> Counts:
    """Return the counts of one item; predicted: `Parsed.answer`, None scores 0."""
    return TASKS[task].measure.counts(gold_answer, predicted, mode == STRICT)


def metrics_of(task: str, items: Sequence[Mapping[str, float]]) -> dict[str, Metric]:
    """Return the metrics of a task by name; items: the counts that they will be applied to."""
    return TASKS[task].measure.metrics(items)


def metric_of(task: str, items: Sequence[Mapping[str, float]]) -> Metric:
    """Return the metric of a task that enters the mean over tasks."""
    return metrics_of(task, items)[TASKS[task].measure.primary]
