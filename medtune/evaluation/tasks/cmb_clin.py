"""CMB-Clin: consultations on real cases, each question after the real answers before it."""

from pathlib import Path
from typing import Any

from medtune.common.errors import DataError
from medtune.data.reading import find_files
from medtune.data.records import Message
from medtune.evaluation.asking.judge import ASPECTS
from medtune.evaluation.results.statistics import Metric, mean
from medtune.evaluation.tasks.base import Doc, Items, Request, Sample
from medtune.evaluation.tasks.reading import item_id, object_rows, text_field
from medtune.evaluation.tasks.replies import (
    SHAPE_METRICS,
    TEXT_METRICS,
    Replies,
    present,
    shape_counts,
    text_counts,
)

REPETITION_PENALTY = 1.1  # of the official generation


class CmbClin(Replies):
    """ROUGE and BLEU of the answers, which the official code does not have, and a judge's marks."""

    name, folder = "cmb_clin", "cmb_clin"
    hub_name = "FreedomIntelligence/CMB:CMB-Clin:test"

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return every question of every case, with the case and the real answers before it."""
        docs = []
        for file in find_files(str(path), (".json", ".jsonl", ".parquet")):
            for source, row in object_rows(file):
                messages: list[dict[str, str]] = []
                pairs = row.get("QA_pairs")
                if not isinstance(pairs, list) or not all(isinstance(p, dict) for p in pairs):
                    raise DataError(
                        f"{source}: expected a list of questions and answers in 'QA_pairs', found "
                        f"{type(pairs).__name__}; mend the row."
                    )
                for number, pair in enumerate(pairs, start=1):
                    answer = "solution" if "solution" in pair else "answer"
                    question = text_field(pair, "question", source)
                    if number == 1:
                        question = f"{text_field(row, 'description', source)}\n{question}"
                    text = text_field(pair, answer, source)
                    messages.append(Message("user", question).to_dict())
                    docs.append(
                        {
                            "id": f"{row.get('id', item_id(source, path))}/{number}",
                            "messages": list(messages),
                            "answer": text,
                            "groups": {"question": str(number)},
                        }
                    )
                    messages.append(Message("assistant", text).to_dict())
        return docs

    def messages(self, doc: Doc) -> list[Message]:
        """Return the case, its questions so far and the real answers to them."""
        return [Message(**message) for message in doc["messages"]]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for a reply with the official penalty, unless another one was named."""
        kind, (options,) = self.generate()
        return [(kind, ({"repetition_penalty": REPETITION_PENALTY, **options},))]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the reply and the judge's marks, 1 to 5; a reply it did not mark has none."""
        reply = responses[0]
        counts = {**shape_counts(reply), **text_counts(reply, doc["answer"])}
        malformed = None if reply.strip() else "empty"
        if self.options.grade is not None:
            marks = self.options.grade(self.messages(doc), reply, doc["answer"])
            counts["judged"] = float(marks is not None)
            counts |= {f"judge_{aspect}": mark for aspect, mark in (marks or {}).items()}
        return Sample(str(reply), None, doc["answer"], counts, malformed)

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return the judge's marks if there are any, the scores, and the form of the replies."""
        marks = [mean(f"judge_{a}", f"judge_{a}", "judged", unit="mark of 5") for a in ASPECTS]
        return present([*marks, *TEXT_METRICS, *SHAPE_METRICS], items)
