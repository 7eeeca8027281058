"""Preference: whether the better of two given answers is the likelier one, and by how much."""

from pathlib import Path
from typing import Any

from medtune.data.reading import read_all, read_preference_file
from medtune.data.records import Message
from medtune.evaluation.results.statistics import Metric, mean
from medtune.evaluation.tasks.base import SCORE, Benchmark, Doc, Items, Request, Sample
from medtune.evaluation.tasks.reading import item_id


class Preference(Benchmark):
    """Held-out pairs of chosen and rejected answers.

    An answer's log-likelihood is the sum over its tokens and its end: what DPO itself compares.
    """

    name, folder = "preference", "reward"

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the pairs of a folder; each file is a group."""
        return [
            {
                "id": item_id(record.source, path),
                "messages": [message.to_dict() for message in record.prompt],
                "chosen": record.chosen,
                "rejected": record.rejected,
                "groups": {"file": Path(record.source.path).stem},
            }
            for record in read_all(str(path), read_preference_file)
        ]

    def messages(self, doc: Doc) -> list[Message]:
        """Return the prompt that both answers share."""
        return [Message(**message) for message in doc["messages"]]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for the log-likelihood of both."""
        end = self.options.end_of_turn
        return [(SCORE, (doc[name] + end,)) for name in ("chosen", "rejected")]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the pair."""
        chosen, rejected = (response[0] for response in responses)
        counts = {
            "items": 1.0,
            "correct": float(chosen > rejected),
            "margin_nats": chosen - rejected,
            # Without the length of the answers: per character, which no tokenizer changes.
            "correct_per_character": float(
                chosen / len(doc["chosen"]) > rejected / len(doc["rejected"])
            ),
        }
        return Sample([chosen, rejected], chosen > rejected, doc["chosen"], counts)

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return accuracy and margin."""
        return [
            mean("accuracy", "correct", chance=0.5),
            mean("accuracy_per_character", "correct_per_character", chance=0.5),
            mean("margin", "margin_nats", unit="nats"),
        ]
