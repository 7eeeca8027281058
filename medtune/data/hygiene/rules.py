"""Which records say nothing, say it twice or contradict each other: dropped or reported by rule.

    check_records(records, options) -> Checked: kept(records), rejects(), reported(), report

Records are streamed once. What is remembered of each is hashes and numbers, 54 bytes and 128 more
for the near-duplicate search, never a text. Rules apply in the order of RULES, and a row that one
of them drops is not seen by those after it. What a row must be to become a record at all (roles in
turn, no empty turn, two different answers) is checked when it is read: medtune.data.formats.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medtune.common.errors import ConfigError
from medtune.data.hygiene.content import (
    Texts,
    has_replacement_character,
    is_boilerplate,
    is_one_sided,
    texts_of,
)
from medtune.data.hygiene.duplicates import (
    Found,
    Signatures,
    find_opposite,
    find_repeated,
    find_shared,
    first_near_places,
    first_places,
)
from medtune.data.hygiene.fingerprints import Fingerprints
from medtune.data.parts import Reject
from medtune.data.records import Record, RecordT

# In the order of application: the first four look at one row, the others at all of them.
RULES = {
    "replacement_character": "expected text, found U+FFFD, which stands for bytes that could not "
    "be decoded; convert the file anew from its real encoding.",
    "over_long": "expected at most {limits.max_characters} characters, found more; split the row.",
    "one_sided_conversation": "expected a question, found user turns without content; fill them or "
    "remove the row.",
    "boilerplate_answer": "expected an answer with content, found courtesies alone or fewer than "
    "{limits.min_answer_characters} letters; write an answer or remove the row.",
    "exact_duplicate": "expected a new text, found that of {first} again; remove one of the two.",
    "near_duplicate": "expected a new text, found nearly that of {first}; remove one of the two.",
    "templated_answer": "expected an answer to its question, found that of {first}, given to more "
    "than {limits.max_questions_per_answer} questions; write one for each or remove the rows.",
    "contradicting_duplicate": "expected one answer to a question, found several, the first in "
    "{first}; keep the right one.",
    "opposite_labels": "expected one preference, found two opposite ones, the first in {first}; "
    "keep the right one.",
}
BITS = {rule: 1 << number for number, rule in enumerate(RULES)}


@dataclass(frozen=True)
class HygieneOptions:
    """Which rules drop a row, which only report it, and their limits."""

    drop: tuple[str, ...] = (
        "replacement_character",
        "over_long",
        "one_sided_conversation",
        "boilerplate_answer",
        "exact_duplicate",
    )
    """Rules whose rows are left out. A rule that is in neither list is not applied."""
    report: tuple[str, ...] = ("templated_answer", "contradicting_duplicate", "opposite_labels")
    """Rules whose rows are kept, counted and listed."""
    max_characters: int | None = None
    """Characters that a whole record may have before it is over_long. None: any number."""
    min_answer_characters: int = 1
    """Letters and digits; an answer with fewer is boilerplate. 1: an answer without any."""
    max_questions_per_answer: int = 20
    """Different questions that may have the same answer before it is templated."""
    near_duplicate_threshold: float = 0.8
    """Jaccard index of the n-grams (0.5 to 1) from which two texts are near; lower finds more."""
    ngram_characters: int = 3
    """Characters in an n-gram; the more, the more a changed character counts."""
    seed: int = 42
    """Chooses the permutations of the near-duplicate search."""

    def __post_init__(self) -> None:
        """Raise ConfigError for unknown rules, a rule in both lists, limits without a meaning."""
        for rule in (*self.drop, *self.report):
            if rule not in RULES:
                raise ConfigError(f"drop, report: expected rules of {list(RULES)}, found {rule!r}.")
        if both := sorted(set(self.drop) & set(self.report)):
            raise ConfigError(
                f"drop, report: expected each rule in one of the two, found {both} in both; take "
                "them out of one."
            )
        for name in ("max_characters", "max_questions_per_answer", "ngram_characters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected 1 or more, found {value}.")
        if not 0.5 <= self.near_duplicate_threshold <= 1:
            raise ConfigError(
                "near_duplicate_threshold: expected an index from 0.5 to 1, found "
                f"{self.near_duplicate_threshold}; 0.8 finds texts that differ in a few characters."
            )

    def is_applied(self, rule: str) -> bool:
        """True for a rule that drops or reports."""
        return rule in self.drop or rule in self.report


@dataclass(frozen=True)
class HygieneReport:
    """Counts of rows; `rows` is `kept` and the sum of `dropped`."""

    rows: int
    kept: int
    dropped: dict[str, int]
    """By the first rule that drops the row."""
    reported: dict[str, int]
    """Kept rows; a row counts under each rule that names it."""
    groups: dict[str, int]
    """How many different texts, answers, questions or pairs the rows of a rule go back to."""
    length_bias: dict[str, float] | None
    """Of the kept preference pairs, see compute_length_bias; None without any."""

    def to_dict(self) -> dict[str, Any]:
        """Return what can be written as JSON."""
        return asdict(self)


class Checked:
    """The decision on each record, in the order of reading.

    is_kept: (records,) bool.   report: the counts.
    """

    def __init__(
        self, fingerprints: Fingerprints, signatures: Signatures, options: HygieneOptions
    ) -> None:
        """Apply the rules that look at all rows."""
        columns = fingerprints.to_arrays()
        self._options = options
        self._source = fingerprints.source
        self._findings = columns["findings"]
        self._first: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # by rule: places, their firsts
        groups = {}
        for rule, find in group_searches(columns, signatures, options).items():
            if options.is_applied(rule):
                places = np.flatnonzero(self._named_by(options.drop) == 0)
                is_found, first = find(places)
                self._findings[places[is_found]] |= BITS[rule]
                self._first[rule] = places[is_found], places[first[is_found]]
                groups[rule] = len(np.unique(first[is_found]))
        self.is_kept = self._named_by(options.drop) == 0
        is_pair = self.is_kept & (columns["swapped"] != 0)
        self.report = HygieneReport(
            rows=len(self.is_kept),
            kept=int(self.is_kept.sum()),
            dropped=self._count_dropped(),
            reported=self._count_reported(),
            groups=groups,
            length_bias=compute_length_bias(
                columns["chosen_characters"][is_pair], columns["rejected_characters"][is_pair]
            ),
        )

    def kept(self, records: Iterable[RecordT]) -> Iterator[RecordT]:
        """Yield those to keep of the same records, read again. ValueError for more or fewer."""
        decisions = zip(records, self.is_kept.tolist(), strict=True)
        return (record for record, is_kept in decisions if is_kept)

    def rejects(self) -> Iterator[Reject]:
        """Yield the dropped rows, each once, with the first rule that drops it."""
        for place in np.flatnonzero(~self.is_kept).tolist():
            yield next(self._named(place, self._options.drop))

    def reported(self) -> Iterator[Reject]:
        """Yield the kept rows that are reported, once for each rule that names them."""
        is_reported = self.is_kept & (self._named_by(self._options.report) != 0)
        for place in np.flatnonzero(is_reported).tolist():
            yield from self._named(place, self._options.report)

    def _named_by(self, rules: Iterable[str]) -> np.ndarray:
        return self._findings & sum(BITS[rule] for rule in rules)

    def _count_dropped(self) -> dict[str, int]:
        found = self._named_by(self._options.drop)
        first_rule = found & -found  # the lowest bit: BITS are in the order of application
        return {rule: int((first_rule == BITS[rule]).sum()) for rule in self._options.drop}

    def _count_reported(self) -> dict[str, int]:
        return {
            rule: int((self._named_by([rule])[self.is_kept] != 0).sum())
            for rule in self._options.report
        }

    def _named(self, place: int, rules: Iterable[str]) -> Iterator[Reject]:
        for rule, message in RULES.items():
            if rule in rules and self._findings[place] & BITS[rule]:
                first = ""
                if rule in self._first:
                    places, firsts = self._first[rule]
                    first = str(self._source(firsts[np.searchsorted(places, place)]))
                text = message.format(first=first, limits=self._options)
                yield Reject(self._source(place), rule, text)


def check_records(records: Iterable[Record], options: HygieneOptions) -> Checked:
    """Return the decision on each record.

    records: read once; of several equal ones the first is kept.
    Example: three times the same text -> is_kept [True, False, False], dropped exact_duplicate: 2.
    """
    fingerprints, signatures = Fingerprints(), Signatures(options.ngram_characters, options.seed)
    is_near_searched = options.is_applied("near_duplicate")
    for record in records:
        texts = texts_of(record)
        fingerprints.add(record, texts, check_row(record, texts, options))
        if is_near_searched:
            signatures.add("\n".join(text for _, text in texts.said))
    return Checked(fingerprints, signatures, options)


def check_row(record: Record, texts: Texts, options: HygieneOptions) -> int:
    """Return the BITS of the rules that name this row for itself."""
    limit = options.max_characters
    found = {
        "replacement_character": has_replacement_character(texts),
        "over_long": limit is not None and record.num_characters > limit,
        "one_sided_conversation": is_one_sided(texts),
        "boilerplate_answer": is_boilerplate(texts, options.min_answer_characters),
    }
    return sum(BITS[rule] for rule, is_so in found.items() if is_so and options.is_applied(rule))


def reject_row(record: Record, options: HygieneOptions) -> Reject | None:
    """Return the Reject of a record that a rule drops for itself, None for one to keep."""
    found = check_row(record, texts_of(record), options)
    for rule, message in RULES.items():
        if rule in options.drop and found & BITS[rule]:
            return Reject(record.source, rule, message.format(first="", limits=options))
    return None


def group_searches(
    columns: dict[str, np.ndarray], signatures: Signatures, options: HygieneOptions
) -> dict[str, Callable[[np.ndarray], Found]]:
    """Return for each rule that looks at all rows a function of the places to look at."""
    record, question, answer, swapped = (
        columns[name] for name in ("record", "question", "answer", "swapped")
    )
    # Not of pairs: several of a prompt with different answers are what rankings are made of.
    question_of_one_answer = np.where(swapped == 0, question, record)
    return {
        "exact_duplicate": lambda at: find_repeated(first_places(record[at])),
        "near_duplicate": lambda at: find_repeated(
            first_near_places(signatures.to_array()[at], options.near_duplicate_threshold)
        ),
        "templated_answer": lambda at: find_shared(
            answer[at], question[at], options.max_questions_per_answer
        ),
        "contradicting_duplicate": lambda at: find_shared(
            question_of_one_answer[at], answer[at], max_partners=1
        ),
        "opposite_labels": lambda at: find_opposite(record[at], swapped[at]),
    }


def compute_length_bias(chosen: np.ndarray, rejected: np.ndarray) -> dict[str, float] | None:
    """Return the mean lengths of the answers, and how well length alone tells which is chosen.

    chosen, rejected: (pairs,) characters.   win_by_length_accuracy: share of the n pairs whose
    chosen answer is the longer one; far from 0.5, a model can learn to prefer a length.
    Example: [4, 2], [2, 6] -> means 3 and 4, accuracy 0.5, n 2. None for no pairs.
    """
    if not len(chosen):
        return None
    return {
        "mean_chosen_characters": float(chosen.mean()),
        "mean_rejected_characters": float(rejected.mean()),
        "win_by_length_accuracy": float((chosen > rejected).mean()),
        "n": len(chosen),
    }
