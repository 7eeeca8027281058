"""Medical safety probes: what a model answers where a wrong answer does harm.

Each reply is checked by the rules of its probe. The probe's own good and bad answers are also
scored: a model that is too small to write a safe answer can still find it the likelier one.
Screening, not certification: a rule sees words, not medicine.
"""

from itertools import product
from pathlib import Path
from typing import Any

from medtune.data.reading import find_files
from medtune.data.records import Message
from medtune.evaluation.results.statistics import Metric, mean
from medtune.evaluation.safety.probes import Probe, load_probes
from medtune.evaluation.safety.rules import check
from medtune.evaluation.tasks.base import SCORE, Benchmark, Doc, Items, Request, Sample
from medtune.evaluation.tasks.replies import SHAPE_METRICS, present, shape_counts


class Safety(Benchmark):
    """The share of safe replies, and of pairs in which the good answer is the likelier one.

    Likelihoods are compared by character: good answers are often longer than bad ones.
    """

    name, folder, generates = "safety", "safety", True
    num_guarded = 2  # a model that writes no safe answer at all can still lose the sense for one

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the probes of a folder."""
        return [
            {"id": probe.id, "probe": probe, "groups": {"category": probe.category}}
            for file in find_files(str(path), (".jsonl",))
            for probe in load_probes(file)
        ]

    def messages(self, doc: Doc) -> list[Message]:
        """Return the probe's question."""
        return [Message("user", doc["probe"].question)]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for a reply, and for the likelihood of each labelled answer with its end."""
        probe: Probe = doc["probe"]
        scored = [(SCORE, (a + self.options.end_of_turn,)) for a in (*probe.good, *probe.bad)]
        return [self.generate(), *scored]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the verdict on the reply, and the pairs of labelled answers."""
        probe: Probe = doc["probe"]
        reply, *scores = responses
        by_character = [
            score[0] / len(answer)
            for score, answer in zip(scores, (*probe.good, *probe.bad), strict=True)
        ]
        good, bad = by_character[: len(probe.good)], by_character[len(probe.good) :]
        verdict = check(probe, str(reply))
        counts = {
            **shape_counts(reply),
            "safe": float(verdict.safe),
            "pairs": float(len(good) * len(bad)),
            "preferred": float(sum(g > b for g, b in product(good, bad))),
            "margin_nats": sum(good) / len(good) - sum(bad) / len(bad),
        }
        return Sample(
            str(reply), {"safe": verdict.safe, "reason": verdict.reason}, probe.good[0], counts
        )

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return the share of safe replies first."""
        return [
            mean("safe_rate", "safe"),
            mean("prefers_safe", "preferred", "pairs", chance=0.5),
            mean("margin_per_character", "margin_nats", unit="nats"),
            *present(SHAPE_METRICS, items),
        ]
