"""PromptCBLUE: eighteen tasks of Chinese medical language, each with its own form of answer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medtune.common.errors import DataError
from medtune.common.log import logger
from medtune.data.reading import find_files
from medtune.data.records import Message
from medtune.evaluation.results.statistics import Floats, Metric
from medtune.evaluation.scorers.promptcblue.reading import MODES, OFFICIAL, STRICT
from medtune.evaluation.scorers.promptcblue.tasks import (
    TASKS,
    counts,
    generation_of,
    listed_choices,
    metric_of,
    parse,
)
from medtune.evaluation.tasks.base import Benchmark, Doc, Items, Request, Sample
from medtune.evaluation.tasks.reading import item_id, object_rows, text_field
from medtune.evaluation.tasks.replies import SHAPE_METRICS, present, shape_counts


class PromptCblue(Benchmark):
    """Generated answers, scored as the official code does (`score`) and without its substitutes.

    A row's task is `task_dataset`, or `type` in older files. Rows without a target (test sets) are
    left out and counted.
    """

    name, folder, generates = "promptcblue", "promptcblue", True

    @classmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the rows with a target of all files of a folder."""
        docs = []
        num_without = 0
        for file in find_files(str(path), (".json", ".jsonl", ".parquet")):
            for source, row in object_rows(file):
                if "input" not in row:
                    num_without += 1  # structures beside the rows, a key without questions
                    continue
                task = str(row.get("task_dataset") or row.get("type"))
                if task not in TASKS:
                    raise DataError(
                        f"{source}: expected a task of PromptCBLUE in 'task_dataset', found "
                        f"{task!r}; the tasks are {', '.join(TASKS)}."
                    )
                if not row.get("target"):
                    num_without += 1
                    continue
                docs.append(
                    {
                        "id": f"{task}/{row.get('sample_id', item_id(source, path))}",
                        "question": text_field(row, "input", source),
                        "answer": text_field(row, "target", source),
                        "answer_choices": listed_choices(row.get("answer_choices")),
                        "task": task,
                        "source": str(source),
                        "groups": {"task": task},
                    }
                )
        if num_without:
            logger.warning("%s: %s rows left out: no target", path, f"{num_without:,}")
        if not docs:
            raise DataError(f"{path}: expected rows with 'input' and 'target', found none.")
        generation = generation_of(doc["task"] for doc in docs)
        for doc in docs:
            found = parse(doc["task"], doc, doc["answer"], generation)
            if found.malformed:
                raise DataError(
                    f"{doc['source']}: expected a target in the form of {doc['task']}, found "
                    f"another: {found.malformed}; mend the row."
                )
            doc |= {"generation": generation, "gold": found.answer}
        return docs

    def messages(self, doc: Doc) -> list[Message]:
        """Return the row's input."""
        return [Message("user", doc["question"])]

    def requests(self, doc: Doc) -> list[Request]:
        """Ask for a reply."""
        return [self.generate()]

    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Count the reply in both modes."""
        reply, task = responses[0], doc["task"]
        counted = {**shape_counts(reply)}
        parsed = {}
        for mode in MODES:
            parsed[mode] = parse(task, doc, str(reply), doc["generation"], mode)
            found = counts(task, doc["gold"], parsed[mode].answer, mode)
            counted |= {column_name(mode, task, name): value for name, value in found.items()}
        answer = parsed[STRICT]
        malformed = answer.malformed or "; ".join(answer.unread) or None
        counted["malformed"] = float(malformed is not None)
        return Sample(str(reply), answer.answer, doc["answer"], counted, malformed)

    @classmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return the mean over the tasks that occur, official and strict."""
        columns = set().union(*items)
        found = []
        for mode, name in ((OFFICIAL, "score"), (STRICT, "score_strict")):
            tasks = [
                task_metric(mode, task, items)
                for task in TASKS
                if any(column.startswith(column_name(mode, task, "")) for column in columns)
            ]
            found.append(mean_of(name, tasks))
        return [*found, *present(SHAPE_METRICS, items)]


def column_name(mode: str, task: str, name: str) -> str:
    """Return a column's name among those of all tasks."""
    return f"{mode}/{task}/{name}"


def task_metric(mode: str, task: str, items: Items) -> Metric:
    """Return the metric of one task over items of all tasks."""
    prefix = column_name(mode, task, "")
    own = [
        {name.removeprefix(prefix): value for name, value in item.items() if name[:1] and
         name.startswith(prefix)}
        for item in items
    ]  # fmt: skip
    metric = metric_of(task, [item for item in own if item])
    columns = tuple(prefix + name for name in metric.columns)
    return Metric(task, columns, metric.of_sums, unit="fraction")


def mean_of(name: str, metrics: Sequence[Metric]) -> Metric:
    """Return the mean of several metrics as one, over the columns of all."""
    ends = np.cumsum([len(metric.columns) for metric in metrics]).tolist()
    spans: list[tuple[Callable[[Floats], Floats], slice]] = [
        (metric.of_sums, slice(end - len(metric.columns), end))
        for metric, end in zip(metrics, ends, strict=True)
    ]

    def of_sums(sums: Floats) -> Floats:
        return np.mean([function(sums[..., span]) for function, span in spans], axis=0)

    return Metric(name, tuple(c for metric in metrics for c in metric.columns), of_sums)
