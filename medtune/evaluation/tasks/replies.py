"""Replies to questions: whether they stop by themselves, repeat themselves, how long they are, and
how close they come to the reference answers."""

from pathlib import Path
from typing import Any

from medtune.common.errors import DataError
from medtune.data.reading import find_files
from medtune.data.records import Message
from medtune.evaluation.asking.answers import GeneratedText
from medtune.evaluation.results.statistics import Metric, mean
from medtune.evaluation.scorers.rouge_bleu import METRIC_NAMES, score_pair
from medtune.evaluation.tasks.base import Benchmark, Doc, Items, Request, Sample
from medtune.evaluation.tasks.reading import item_id, object_rows, text_field
from medtune.evaluation.tasks.texts import read_turns

REPEATED_CHARACTERS = 8  # a run of so many that occurred before in the reply is a repetition
SHAPE_METRICS = [
    mean("stop_rate", "stopped"),
    mean("repetition", "repeated", "runs", higher_is_better=False),
    mean("length_tokens", "tokens", higher_is_better=None, unit="tokens"),
    mean("length_characters", "characters", higher_is_better=None, unit="characters"),
]
FACT_RECALL = mean("fact_recall", "recalled", "asked")  # of the words that a reply must name
TEXT_METRICS = [
    mean(name, name, "compared", unit="fraction" if name == "bleu-4-word" else "points")
    for name in METRIC_NAMES
]


def shape_counts(reply: str) -> dict[str, float]:
    """Return what the form of a reply counts: its length, runs that it repeats, its end.

    A reply of a model that does not say how it ended has no tokens and no end.
    """
    runs = [
        reply[start : start + REPEATED_CHARACTERS]
        for start in range(len(reply) - REPEATED_CHARACTERS + 1)
    ]
    repeated = float(len(runs) - len(set(runs)))
    counts = {"items": 1.0, "characters": float(len(reply)), "runs": float(len(runs))}
    if isinstance(reply, GeneratedText):
        counts |= {"stopped": float(reply.stopped), "tokens": float(reply.num_tokens)}
    return {**counts, "repeated": repeated}


def text_counts(reply: str, reference: str) -> dict[str, float]:
    """Return ROUGE and BLEU of a reply; one that is empty scores 0."""
    scores = score_pair(reply, reference).counts()
    return {"compared": 1.0, **{name: scores[name] for name in METRIC_NAMES}}


def present(metrics: list[Metric], items: Items) -> list[Metric]:
    """Return the metrics whose columns were counted."""
    columns = set().union(*items)
    return [metric for metric in metrics if columns.issuperset(metric.columns)]


class Replies(Benchmark):
    """Single questions from a file.

    Optional: `reference`, an answer to compare with; `key_values`, words that a reply must name.
    """

    name, folder, generates = "replies", "questions.jsonl", True

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the questions of a file."""
        docs = []
        for file in find_files(str(path), (".jsonl", ".json")):
            for source, row in object_rows(file):
                key_values = row.get("key_values") or []
                if not isinstance(key_values, list):
                    raise DataError(
                        f"{source}: expected a list of words in 'key_values', found {key_values!r}."
                    )
                has_reference = row.get("reference") not in (None, "")
                docs.append(
                    {
                        "id": str(row.get("id", item_id(source, path))),
                        "question": text_field(row, "question", source),
                        "answer": text_field(row, "reference", source) if has_reference else "",
                        "key_values": [str(value) for value in key_values],
                        "groups": {},
                    }
                )
        return docs

    def messages(self, doc: Doc) -> list[Message]:
        """Return the question."""
        return [Message("user", doc["question"])]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for a reply."""
        return [self.generate()]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the reply's form and, where there is a reference, how near it comes."""
        reply = responses[0]
        counts = shape_counts(reply)
        if doc["answer"]:
            counts |= text_counts(reply, doc["answer"])
        if key_values := doc.get("key_values"):
            num_named = sum(value in reply for value in key_values)
            counts |= {"asked": 1.0, "recalled": num_named / len(key_values)}
        malformed = None if reply.strip() else "empty"
        return Sample(str(reply), None, doc["answer"] or None, counts, malformed)

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return the numbers that were counted."""
        return present([FACT_RECALL, *SHAPE_METRICS, *TEXT_METRICS], items)


class RougeBleu(Replies):
    """The last answer of conversations, generated and compared with the real one."""

    name, folder = "rouge_bleu", "finetune"

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the last turns of the conversations of a folder."""
        return read_turns(path, all_turns=False)

    def messages(self, doc: Doc) -> list[Message]:
        """Return the conversation before the last answer."""
        return [Message(**message) for message in doc["messages"]]

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return the scores first."""
        return present(TEXT_METRICS + SHAPE_METRICS, items)
