"""CMB-Exam: examination questions, by the likelihood of the options or by a written answer.

Three ways of asking, each a benchmark of its own, because their numbers do not compare:

- `cmb_exam`: the options are shown, the likeliest letter counts; with several right answers the
  likeliest combination of letters, each with the end of the reply.
- `cmb_exam_text`: the options are not shown; the text that is likeliest as a reply, by character,
  counts. A small model that cannot point to a letter can still know the answer.
- `cmb_exam_generate`: the model writes, and its answer is read: strictly, and as the official code
  reads it.
"""

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from medtune.common.errors import DataError
from medtune.common.log import logger
from medtune.data.reading import find_files
from medtune.data.records import Message, Source
from medtune.evaluation.results.statistics import Floats, Metric, mean
from medtune.evaluation.scorers.cmb.official import official_answer
from medtune.evaluation.scorers.cmb.prompts import build_answer, build_prompt, shown_options
from medtune.evaluation.scorers.cmb.reading import SEVERAL_ANSWERS, read_choice
from medtune.evaluation.scorers.cmb.scores import official_counts, strict_counts
from medtune.evaluation.tasks.base import SCORE, Benchmark, Doc, Items, Request, Sample
from medtune.evaluation.tasks.reading import item_id, object_rows, text_field
from medtune.evaluation.tasks.replies import SHAPE_METRICS, present, shape_counts

GROUPS = ("exam_type", "exam_class", "question_type")
ONE_ANSWER = "单项选择题"
BINS = 10  # of confidence, for the calibration
BIN_COLUMNS = tuple(f"{kind}_{b}" for b in range(BINS) for kind in ("confidence", "hits"))
EXAMPLES = ("val", "dev", "examples", "explanation")  # words in the names of example files
MAX_LETTERS = 8  # of several right ones: 255 combinations


def calibration_error(sums: Floats) -> Floats:
    """Return the expected calibration error: |confidence - accuracy| of each bin, by its items.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.
    """
    gaps = np.abs(sums[..., 0:-1:2] - sums[..., 1:-1:2]).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return gaps / sums[..., -1]


ACCURACY = mean("accuracy", "correct", chance_column="chance")
CALIBRATION = Metric(
    "ece", (*BIN_COLUMNS, "items"), calibration_error, higher_is_better=False, unit="fraction"
)


class CmbExam(Benchmark):
    """The likeliest letter, or letters, after the question with its options."""

    name, folder = "cmb_exam", "cmb_exam"
    hub_name = "FreedomIntelligence/CMB:CMB-Exam:test"

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the questions of a folder, with answers from a key file where one is there."""
        return read_questions(path)[0]

    def messages(self, doc: Doc) -> list[Message]:
        """Return the official prompt."""
        return [Message("user", build_prompt(doc))]

    def example_answer(self, doc: Doc) -> str:
        """Return the letters alone, as they are asked for here."""
        return str(doc["answer"])

    def candidates(self, doc: Doc) -> list[str]:
        """Return the answers that are possible: letters, or their combinations."""
        letters = list(shown_options(doc))
        if doc["question_type"] != SEVERAL_ANSWERS:
            return letters
        sizes = range(1, len(letters) + 1)
        return ["".join(chosen) for size in sizes for chosen in combinations(letters, size)]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for the likelihood of each; of combinations with their end: AB begins ABC."""
        several = doc["question_type"] == SEVERAL_ANSWERS
        end = (self.options.end_of_turn or "\n") if several else ""
        return [(SCORE, (letters + end,)) for letters in self.candidates(doc)]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the likeliest answer."""
        return self.count_scores(doc, [response[0] for response in responses])

    def count_scores(self, doc: Doc, scores: list[float]) -> Sample:
        """Count the answer with the highest score, and how sure it is among the candidates."""
        candidates = self.candidates(doc)
        best = max(range(len(scores)), key=scores.__getitem__)
        confidence = 1 / sum(math.exp(score - scores[best]) for score in scores)
        correct = float(set(candidates[best]) == set(doc["answer"]))
        place = min(int(confidence * BINS), BINS - 1)
        counts = {
            "items": 1.0,
            "correct": correct,
            "chance": 1 / len(candidates),
            f"confidence_{place}": confidence,
            f"hits_{place}": correct,
        }
        return Sample(dict(zip(candidates, scores, strict=True)), candidates[best],
                      doc["answer"], counts)  # fmt: skip

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return accuracy and calibration."""
        return [ACCURACY, CALIBRATION]


class CmbExamText(CmbExam):
    """The option that is likeliest as a reply, per character, after the question alone."""

    name = "cmb_exam_text"

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the questions with one right answer."""
        docs = [doc for doc in super().read(path) if doc["question_type"] != SEVERAL_ANSWERS]
        if not docs:
            raise DataError(f"{path}: expected questions with one right answer, found none.")
        return docs

    def messages(self, doc: Doc) -> list[Message]:
        """Return the question."""
        return [Message("user", doc["question"])]

    def example_answer(self, doc: Doc) -> str:
        """Return the text of the right option."""
        return shown_options(doc)[doc["answer"]]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for the likelihood of each option's text."""
        return [(SCORE, (text,)) for text in shown_options(doc).values()]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the option that is likeliest by character."""
        lengths = [len(text) for text in shown_options(doc).values()]
        scores = [r[0] / length for r, length in zip(responses, lengths, strict=True)]
        sample = self.count_scores(doc, scores)
        # A mean by character is no probability, so it says nothing of how sure the model is.
        kept = {name: sample.counts[name] for name in ("items", "correct", "chance")}
        return replace(sample, counts=kept)

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return accuracy."""
        return [ACCURACY]

    @classmethod
    def can_be_example(cls, doc: Doc) -> bool:
        """True for questions with one right answer."""
        return doc["question_type"] != SEVERAL_ANSWERS


class CmbExamGenerate(CmbExam):
    """A written answer, read strictly and as the official code reads it."""

    name, generates = "cmb_exam_generate", True

    def messages(self, doc: Doc) -> list[Message]:
        """Return the official prompt, or the one that asks for an analysis first."""
        return [Message("user", build_prompt(doc, self.options.chain_of_thought))]

    def example_answer(self, doc: Doc) -> str:
        """Return the official form of an answer."""
        return build_answer(doc, self.options.chain_of_thought)

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for a reply."""
        return [self.generate()]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the reply; one that nobody could read is wrong and counted as unread."""
        reply, options = responses[0], shown_options(doc)
        letters = "".join(options)
        chosen = read_choice(reply, letters, doc["question_type"], options)
        official = official_answer([reply], doc["question_type"])
        counts = {
            **shape_counts(reply),
            **strict_counts(doc["answer"], chosen),
            "correct_official": official_counts(doc["answer"], official)["correct"],
            "chance": 1 / len(self.candidates(doc)),
        }
        malformed = "no answer could be read" if chosen is None else None
        return Sample(str(reply), chosen, doc["answer"], counts, malformed)

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return both accuracies, what could not be read, and the form of the replies."""
        return [
            ACCURACY,
            mean("accuracy_official", "correct_official", chance_column="chance"),
            mean("unread_rate", "unread", higher_is_better=False),
            *present(SHAPE_METRICS, items),
        ]


def read_questions(path: Path) -> tuple[list[Doc], list[Doc]]:
    """Return the questions to ask, and the worked examples: files with val, dev or example in name.

    Questions without an answer get it by their id from rows that have no question (the official
    key). What cannot be asked is counted and said. Raises DataError if nothing is left.
    """
    asked: list[Doc] = []
    examples: list[Doc] = []
    key: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for file in find_files(str(path), (".json", ".jsonl", ".parquet")):
        words = set(re.split(r"[^a-z]+", file.stem.lower()))
        is_example = path.is_dir() and not words.isdisjoint(EXAMPLES)
        if is_example:
            logger.info("%s: worked examples", file)
        for source, row in object_rows(file):
            if "question" not in row:
                key[str(row.get("id"))] = str(row.get("answer", ""))
                continue
            (examples if is_example else asked).append(
                question_from_row(row, source, item_id(source, path))
            )
    for doc in [*asked, *examples]:
        doc["answer"] = doc["answer"] or key.get(doc["id"], "")
    kept = [[doc for doc in docs if check(doc, left_out)] for docs in (asked, examples)]
    for reason, number in left_out.items():
        logger.warning("%s: %s questions left out: %s", path, f"{number:,}", reason)
    if not kept[0]:
        if not kept[1]:
            raise DataError(f"{path}: expected questions with options and answers, found none.")
        kept = [kept[1], []]
    return kept[0], kept[1]


def question_from_row(row: dict[str, Any], source: Source, default_id: str) -> Doc:
    """Return a question in one form. Raises DataError for one without text or options."""
    options = row.get("option") or row.get("options")
    if not isinstance(options, dict):
        raise DataError(
            f"{source}: expected 'option' with letters and texts, found {options!r}; mend the row."
        )
    several = len(set(str(row.get("answer") or ""))) > 1
    return {
        **row,
        "id": str(row.get("id", default_id)),
        "question": text_field(row, "question", source),
        "option": options,
        "answer": str(row.get("answer") or ""),
        "question_type": row.get("question_type") or (SEVERAL_ANSWERS if several else ONE_ANSWER),
        "groups": {name: str(row.get(name) or "-") for name in GROUPS},
    }


def check(doc: Doc, left_out: Counter[str]) -> bool:
    """True if a question can be asked; else the reason is counted."""
    options = shown_options(doc)
    if not doc["answer"]:
        left_out["no answer in the row or in a key"] += 1
    elif len(options) < 2:
        left_out["fewer than two options with text"] += 1
    elif not set(doc["answer"]) <= set(options):
        left_out["the answer is none of the options with text"] += 1
    elif doc["question_type"] != SEVERAL_ANSWERS and len(doc["answer"]) > 1:
        left_out["several letters are the one right answer"] += 1
    elif doc["question_type"] == SEVERAL_ANSWERS and len(options) > MAX_LETTERS:
        left_out[f"more than {MAX_LETTERS} options to combine"] += 1
    else:
        return True
    return False
