"""One benchmark after the other through lm-eval: from items to samples and numbers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lm_eval.api.model
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from lm_eval.evaluator import evaluate

from medtune.common.log import is_main_process
from medtune.evaluation.asking.language_model import ChatModel, messages_of
from medtune.evaluation.asking.responses import Responses
from medtune.evaluation.results.folder import Counted, EvaluationFolder, to_counted
from medtune.evaluation.results.statistics import measure
from medtune.evaluation.tasks.base import Benchmark, Doc, Sample

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it tells at length what it is told here

PORTION = 1000  # items at a time: what is in memory does not grow with a benchmark
GROUP_RESAMPLES = 500
MAX_GROUPS = 60  # of one kind; a grouping that is finer says nothing in a table


def run_task(
    name: str,
    docs: list[Doc],
    build: Callable[[list[Doc]], Benchmark],
    model: lm_eval.api.model.LM,
    folder: EvaluationFolder,
) -> list[Counted]:
    """Run a benchmark in portions and keep each as it is done; return what its items count.

    What an interrupted evaluation has done is not done again: whole portions, and of the last one
    each answer that was written.   On other processes than the first only the work is done.
    """
    counted = folder.begun(name) if is_main_process() else []
    start = broadcast_object_list([len(counted)])[0]
    responses = folder.responses(PartialState().process_index)
    for first in range(start, len(docs), PORTION):
        portion = docs[first : first + PORTION]
        if isinstance(model, ChatModel):
            done = f" after {first:,} of {len(docs):,}" if len(docs) > PORTION else ""
            model.what = name + done
            model.responses = Responses(responses)
        # Each process needs an item: the last one is repeated, and left out again.
        spare = max(0, PartialState().num_processes - len(portion))
        samples = run_portion(build(portion + portion[-1:] * spare), model)[: len(portion)]
        if is_main_process():
            folder.append(name, samples)
            counted += [to_counted(sample) for sample in samples]
        PartialState().wait_for_everyone()
        responses.unlink(missing_ok=True)
    return counted


def run_portion(benchmark: Benchmark, model: lm_eval.api.model.LM) -> list[dict[str, Any]]:
    """Return the samples of a benchmark in the order of its items; [] on other processes."""
    found = evaluate(
        model,
        {"tasks": {benchmark.name: benchmark}, "groups": {}, "group_map": {}},
        bootstrap_iters=0,
        apply_chat_template=benchmark.options.is_chat,
        fewshot_as_multiturn=True,
    )
    if found is None:
        return []
    logged = sorted(found["samples"][benchmark.name], key=lambda example: example["doc_id"])
    is_chat = benchmark.options.is_chat and isinstance(model, ChatModel)
    return [describe_sample(example, is_chat) for example in logged]


def describe_sample(example: Mapping[str, Any], is_chat: bool) -> dict[str, Any]:
    """Return a line of samples/<task>.jsonl from what lm-eval logged."""
    doc, sample = example["doc"], example["sample"]
    assert isinstance(sample, Sample)
    prompt, *others = example["arguments"][0]
    is_chat = is_chat and bool(others)  # a text that is only foreseen has no prompt
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


def summarize(benchmark: type[Benchmark], samples: Sequence[Counted]) -> dict[str, Any]:
    """Return the numbers of a benchmark: over all items, and for each group of each kind."""
    items = [sample.counts for sample in samples]
    kinds = dict.fromkeys(kind for sample in samples for kind in sample.groups)
    groups = {}
    for kind in kinds:
        members: dict[str, list[Mapping[str, float]]] = {}
        for sample in samples:
            members.setdefault(sample.groups[kind], []).append(sample.counts)
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
        "malformed": sum(sample.is_malformed for sample in samples),
        "metrics": measure(items, benchmark.metrics(items)),
        "groups": groups,
    }
