"""The gate that keeps evaluation items out of the training data.

    gate = ContaminationGate.from_files(["cmb_exam/", "cmb_clin/cases.json"])
    report = gate.new_report()
    for record in records:
        report.add(gate.matches(record))
    report.write_matches(folder / MATCHES_FILE)
    report.check()

Evaluation items are held in memory, training records pass through one at a time. What counts as a
match, and how often it is wrong, is in docs/contamination.md.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.data.contamination.eval_items import GAP, EvalItem, read_eval_items
from medtune.data.contamination.ngrams import (
    NgramIndex,
    hash_ngrams,
    join_hashes,
    normalize,
    windows,
)
from medtune.data.contamination.report import ContaminationReport, Match
from medtune.data.formats.files import JSON_SUFFIXES
from medtune.data.reading import find_files
from medtune.data.records import Conversation, PreferencePair, Record, TextRecord

ANCHOR_CHARACTERS = 4
MIN_TURN_CHARACTERS = 6  # a shorter question without options ("what now") is asked everywhere
MIN_COVERED_CHARACTERS = 14  # one long term (a disease, a class of drugs) has fewer
MAX_ITEMS_PER_NGRAM = 10  # what more items share is the wording of a task, not of an item
MIN_WINDOW_STEP = 2048


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How alike a record and an item must be, and how many such records may be there."""

    min_question_characters: int = 12
    """Letters and digits of a question that matches wherever it occurs. A shorter one matches where
    all its options occur too, or where it is all that a user says. Lower: more false matches."""
    ngram_characters: int = 6
    """Length of the n-grams that are compared. Longer: one edit hides more of them."""
    min_overlap: float = 0.7
    """Share (0-1) of the letters and digits of an item that must lie in n-grams of a record."""
    max_contaminated_percentage: float = 0.0
    """Records in a hundred that may match before ContaminationReport.check refuses the data."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of its range."""
        ranges = {
            "min_question_characters": (1, float("inf")),
            "ngram_characters": (2, float("inf")),
            "min_overlap": (0.01, 1),
            "max_contaminated_percentage": (0, 100),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"{name}: expected a number from {low:g} to {high:g}, found {value!r}; "
                    "leave it out for the default."
                )


class ContaminationGate:
    """Finds evaluation items in training records."""

    def __init__(self, items: Iterable[EvalItem], settings: GateSettings | None = None) -> None:
        """Index the items; of their texts the normalised questions and options are kept."""
        self.settings = settings or GateSettings()
        items = list(items)
        self.sources = [item.source for item in items]
        self.questions = [pieces_of(item.question.split(GAP)) for item in items]
        self.options = [pieces_of(item.options) for item in items]
        self.required = [
            required_pieces(question, options, self.settings.min_question_characters)
            for question, options in zip(self.questions, self.options, strict=True)
        ]
        self.turns: dict[str, list[int]] = {}
        for number, question in enumerate(map("".join, self.questions)):
            if question and (self.options[number] or len(question) >= MIN_TURN_CHARACTERS):
                self.turns.setdefault(question, []).append(number)
        self.num_unchecked = len(items) - sum(map(len, self.turns.values()))
        self.anchors = index_anchors(self.required)
        self.ngrams, self.starts = index_ngrams(items, self.settings.ngram_characters)
        self.num_characters = np.zeros(len(items))
        indexed, num_characters = self.count_covered(np.sort(self.ngrams.values))
        self.num_characters[indexed] = num_characters
        longest = max((sum(map(len, pieces)) for pieces in self.required), default=0)
        self.window_step = max(MIN_WINDOW_STEP, 2 * longest)

    @classmethod
    def from_files(
        cls, paths: Sequence[str | Path], settings: GateSettings | None = None
    ) -> "ContaminationGate":
        """Return the gate for the items of files, or of all JSON files below folders.

        Raises DataError: nothing there, or a row that is no item.
        """
        files = [file for path in paths for file in find_files(str(path), JSON_SUFFIXES)]
        gate = cls((item for file in files for item in read_eval_items(file)), settings)
        logger.info("%s evaluation items from %s files", f"{len(gate.sources):,}", len(files))
        if gate.num_unchecked:
            logger.warning(
                "%s evaluation items are not looked for: no options, and under %s letters",
                f"{gate.num_unchecked:,}",
                MIN_TURN_CHARACTERS,
            )
        return gate

    def new_report(self) -> ContaminationReport:
        """Return a report that has counted nothing yet."""
        items_per_file = dict(Counter(source.path for source in self.sources))
        return ContaminationReport(items_per_file, self.settings.max_contaminated_percentage)

    def match(self, record: Record) -> Match | None:
        """Return the best match of a record, or None for a clean one."""
        return next(iter(self.matches(record)), None)

    def matches(self, record: Record) -> list[Match]:
        """Return all matches of a record: questions before overlaps, the surest first."""
        texts = texts_of(record)
        normalized = [normalize(text) for text, _ in texts]
        text = "\n".join(normalized)
        verbatim: set[int] = set()
        overlaps: dict[int, float] = {}
        asked = [turn for turn, (_, is_asked) in zip(normalized, texts, strict=True) if is_asked]
        for number, turn in enumerate(asked):
            if number == 0 or len(turn) >= MIN_TURN_CHARACTERS:
                verbatim.update(self.turns.get(turn, ()))
        for window in windows(text, self.window_step):
            verbatim.update(self.contained_in(window))
            for item, share in self.overlapping(window):
                overlaps[item] = max(share, overlaps.get(item, 0.0))
        whole = sorted(verbatim, key=lambda item: self.rank(item, text))
        part = sorted(overlaps.keys() - verbatim, key=lambda item: (-overlaps[item], item))
        found = [Match(record.source, self.sources[item], "question", 1.0) for item in whole]
        return found + [
            Match(record.source, self.sources[item], "overlap", overlaps[item]) for item in part
        ]

    def rank(self, item: int, text: str) -> tuple[int, int, int]:
        """Return what the items in a text are sorted by: the longest question, then its options.

        Exams ask one question with several sets of options: the item with most of its own is meant.
        """
        num_characters = sum(map(len, self.questions[item]))
        num_options = sum(option in text for option in self.options[item])
        return -num_characters, -num_options, item

    def contained_in(self, window: str) -> list[int]:
        """Return the items all of whose required pieces occur in a window."""
        candidates = set(self.anchors.find(hash_ngrams(window, ANCHOR_CHARACTERS)).tolist())
        return [c for c in candidates if all(piece in window for piece in self.required[c])]

    def overlapping(self, window: str) -> list[tuple[int, float]]:
        """Return the items of which enough occurs in a window, with the share."""
        hashes = hash_ngrams(window, self.settings.ngram_characters)
        places = np.sort(self.ngrams.find(hashes))
        if len(places) * self.settings.ngram_characters < MIN_COVERED_CHARACTERS:
            return []
        items, covered = self.count_covered(places)
        shares = covered / self.num_characters[items]
        is_match = (shares >= self.settings.min_overlap) & (covered >= MIN_COVERED_CHARACTERS)
        return list(zip(items[is_match].tolist(), shares[is_match].tolist(), strict=True))

    def count_covered(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return items and how many of their characters lie in the n-grams at these sorted places.

        Example (n-grams of 3): the places 0, 1 and 7 of one item cover 0-3 and 7-9, so 7.
        """
        length = self.settings.ngram_characters
        gained = np.minimum(np.diff(places, append=places[-1:] + length), length)
        owners = np.searchsorted(self.starts, places, "right") - 1
        items, first = np.unique(owners, return_index=True)
        return items, np.add.reduceat(gained, first) if len(items) else gained


def texts_of(record: Record) -> list[tuple[str, bool]]:
    """Return all texts of a record, each with whether it is what a user says, or a document."""
    match record:
        case TextRecord():
            return [(record.text, True)]
        case Conversation():
            return [(message.content, message.role == "user") for message in record.messages]
        case PreferencePair():
            prompt = [(message.content, message.role == "user") for message in record.prompt]
            return [*prompt, (record.chosen, False), (record.rejected, False)]


def pieces_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the normalised texts, without those of which nothing is left."""
    return tuple(filter(None, map(normalize, texts)))


def required_pieces(
    question: tuple[str, ...], options: tuple[str, ...], min_characters: int
) -> tuple[str, ...]:
    """Return what must occur for a match: the question, and its options if it is short.

    Options of one character are left out where there are longer ones, because official prompts do
    so. () for a short question without options: it matches nothing by occurring.
    """
    if sum(map(len, question)) >= min_characters:
        return question
    longer = tuple(option for option in options if len(option) > 1)
    return question + (longer or options) if question and options else ()


def index_anchors(required: list[tuple[str, ...]]) -> NgramIndex:
    """Return the index to each item from one of its n-grams, the one that fewest items have."""
    longest = [max(pieces, key=len, default="") for pieces in required]
    hashes = [hash_ngrams(piece, ANCHOR_CHARACTERS) for piece in longest]
    distinct, counts = np.unique(join_hashes(hashes), return_counts=True)
    rarest = {
        number: own[np.argmin(counts[np.searchsorted(distinct, own)])]
        for number, own in enumerate(hashes)
        if len(own)
    }
    return NgramIndex(np.array([*rarest.values()], np.uint64), np.array([*rarest], np.int32))


def index_ngrams(items: list[EvalItem], length: int) -> tuple[NgramIndex, np.ndarray]:
    """Return the index from n-grams to their places in the items, and where each item starts.

    All items are laid end to end, each line with a gap of `length` after it, so that a place stands
    for an item, and n-grams do not run from the fixed lines of a prompt into its content.
    N-grams of more than MAX_ITEMS_PER_NGRAM questions are left out; the same question in several
    files counts once.
    """
    hashes, places, starts, different, end = [], [], [], {}, 0
    for item in items:
        starts.append(end)
        lines = pieces_of(item.question.replace(GAP, "\n").split("\n"))
        own_places = []
        for line in lines:
            own_places.append(np.arange(end, end + max(0, len(line) - length + 1)))
            end += len(line) + length
        own = join_hashes([hash_ngrams(line, length) for line in lines])
        different[lines], first = np.unique(own, return_index=True)
        hashes.append(different[lines])
        places.append(np.concatenate([np.empty(0, np.int64), *own_places])[first])
    ngrams, counts = np.unique(join_hashes([*different.values()]), return_counts=True)
    joined = join_hashes(hashes)
    is_rare = counts[np.searchsorted(ngrams, joined)] <= MAX_ITEMS_PER_NGRAM
    joined_places = np.concatenate([np.empty(0, np.int64), *places])
    return NgramIndex(joined[is_rare], joined_places[is_rare]), np.array(starts)
