"""One benchmark after the other through lm-eval: from items to samples and numbers."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval.api.model
from lm_eval.evaluator import evaluate

from medtune.evaluation.asking.language_model import CHAT, ChatModel, messages_of
from medtune.evaluation.asking.responses import Responses
from medtune.evaluation.results.statistics import measure
from medtune.evaluation.tasks.base import Benchmark, Sample

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it tells at length what it is told here

GROUP_RESAMPLES = 500
MAX_GROUPS = 60  # of one kind; a grouping that is finer says nothing in a table


def run_benchmark(
    benchmark: Benchmark, model: lm_eval.api.model.LM, responses: Path, is_chat: bool
) -> list[dict[str, Any]]:
    """Return the samples of a benchmark in the order of its items; [] on other processes.

    responses: where the model's answers are kept until then.
    """
    if isinstance(model, ChatModel):
        model.what = benchmark.name
        model.responses = Responses(responses)
    found = evaluate(
        model,
        {"tasks": {benchmark.name: benchmark}, "groups": {}, "group_map": {}},
        bootstrap_iters=0,
        apply_chat_template=is_chat,
        fewshot_as_multiturn=True,
    )
    if found is None:
        return []
    logged = sorted(found["samples"][benchmark.name], key=lambda example: example["doc_id"])
    return [describe_sample(example) for example in logged]


def describe_sample(example: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of samples/<task>.jsonl from what lm-eval logged."""
    doc, sample = example["doc"], example["sample"]
    assert isinstance(sample, Sample)
    prompt = example["arguments"][0][0]
    is_chat = isinstance(prompt, str) and prompt.startswith(CHAT)
    return {
        "id": doc["id"],
        "prompt": [m.to_dict() for m in messages_of(prompt)] if is_chat else prompt,
        "output": sample.output,
        "parsed": sample.parsed,
        "gold": sample.gold,
        "malformed": sample.malformed,
        "counts": sample.counts,
        "groups": doc["groups"],
    }


def summarize(benchmark: type[Benchmark], samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the numbers of a benchmark: over all items, and for each group of each kind."""
    items = [sample["counts"] for sample in samples]
    kinds = dict.fromkeys(kind for sample in samples for kind in sample["groups"])
    groups = {}
    for kind in kinds:
        members: dict[str, list[Mapping[str, float]]] = {}
        for sample in samples:
            members.setdefault(sample["groups"][kind], []).append(sample["counts"])
        if 1 < len(members) <= MAX_GROUPS:
            groups[kind] = {
                name: {
                    "num_items": len(own),
                    "metrics": measure(own, benchmark.metrics(own)[:1], GROUP_RESAMPLES),
                }
                for name, own in sorted(members.items())
            }
    return {
        "num_items": len(items),
        "malformed": sum(sample["malformed"] is not None for sample in samples),
        "metrics": measure(items, benchmark.metrics(items)),
        "groups": groups,
    }


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        """Start."""
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return round(time.monotonic() - self.started, 2)
