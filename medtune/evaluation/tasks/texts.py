"""Perplexity: how well a model foresees a text, and a right answer.

exp(sum of -log p / number of tokens) over all items, each token with its own weight. Models with
different tokenizers compare by character or by byte of UTF-8, which no tokenizer changes.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medtune.data.reading import read_all, read_conversation_file, read_text_file
from medtune.data.records import Message
from medtune.evaluation.asking.answers import ScoredText
from medtune.evaluation.results.statistics import Floats, Metric, ratio
from medtune.evaluation.tasks.base import ROLL, SCORE, Benchmark, Doc, Items, Request, Sample
from medtune.evaluation.tasks.reading import item_id


def exp_ratio(sums: Floats) -> Floats:
    """Return exp(first sum / second sum); inf where it overflows."""
    with np.errstate(over="ignore"):
        return np.exp(ratio(sums))


def bits_ratio(sums: Floats) -> Floats:
    """Return nats per unit as bits."""
    return ratio(sums) / math.log(2)


def lower(name: str, of: str, function: Callable[[Floats], Floats], unit: str) -> Metric:
    """Return a metric of the negative log-likelihood per `of`; less is better."""
    return Metric(name, ("nats", of), function, higher_is_better=False, unit=unit)


LIKELIHOOD_METRICS = [
    lower("perplexity", "tokens", exp_ratio, "perplexity"),
    lower("perplexity_per_character", "characters", exp_ratio, "perplexity"),
    lower("bits_per_byte", "bytes", bits_ratio, "bits"),
]


class Likelihood(Benchmark):
    """What the two benchmarks of this module count."""

    def likelihood_counts(self, text: str, log_likelihood: float) -> dict[str, float]:
        """Return what a text counts: -log p in nats, and its size.

        Its tokens are those that the sum is over; a model that does not say gets them counted.
        """
        if isinstance(log_likelihood, ScoredText):
            tokens = log_likelihood.num_tokens
        else:
            tokens = self.options.count_tokens(text)
        return {
            "items": 1.0,
            "nats": -log_likelihood,
            "tokens": float(tokens),
            "characters": float(len(text)),
            "bytes": float(len(text.encode("utf-8", errors="surrogatepass"))),
        }

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return the perplexities."""
        return LIKELIHOOD_METRICS


class Perplexity(Likelihood):
    """Running text, document by document, each after an end of text as in pretraining.

    A document longer than the window is cut, see ChatModel.stride.
    """

    name, folder = "perplexity", "pretrain"

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the documents of a folder."""
        records = read_all(str(path), read_text_file)
        return [
            {"id": item_id(record.source, path), "text": record.text, "groups": {}}
            for record in records
        ]

    def messages(self, doc: Doc) -> list[Message]:
        """Return no prompt."""
        return []

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for the whole text's log-likelihood."""
        return [(ROLL, (doc["text"],))]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the text."""
        counts = self.likelihood_counts(doc["text"], responses[0])
        return Sample(None, None, None, counts)


class AnswerPerplexity(Likelihood):
    """The doctors' answers in conversations, each after the real conversation before it."""

    name, folder = "answer_perplexity", "finetune"

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the assistant turns of the conversations of a folder."""
        return read_turns(path, all_turns=True)

    def messages(self, doc: Doc) -> list[Message]:
        """Return the conversation before the answer."""
        return [Message(**message) for message in doc["messages"]]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for the log-likelihood of the answer and of its end."""
        return [(SCORE, (doc["answer"] + self.options.end_of_turn,))]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the answer, with its end."""
        counts = self.likelihood_counts(doc["answer"], responses[0][0])
        return Sample(None, None, doc["answer"], counts)


def read_turns(path: Path, all_turns: bool) -> list[Doc]:
    """Return the assistant turns of conversations, or the last ones alone, as items."""
    docs = []
    for record in read_all(str(path), read_conversation_file):
        messages = record.messages
        numbers = [n for n, message in enumerate(messages) if message.role == "assistant"]
        for number in numbers if all_turns else numbers[-1:]:
            docs.append(
                {
                    "id": f"{item_id(record.source, path)}/{number}",
                    "messages": [message.to_dict() for message in messages[:number]],
                    "answer": messages[number].content,
                    "groups": {},
                }
            )
    return docs
