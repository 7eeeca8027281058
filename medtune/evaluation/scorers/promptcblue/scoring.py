"""From rows of gold and of predictions to the numbers that PromptCBLUE's scorer prints."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from medtune.data.records import Source
from medtune.evaluation.scorers.promptcblue.joining import Item, Options, Predictions, join
from medtune.evaluation.scorers.promptcblue.measure import Counts
from medtune.evaluation.scorers.promptcblue.reading import OFFICIAL
from medtune.evaluation.scorers.promptcblue.tasks import TASKS, metrics_of

DOUBTS = ("malformed", "unread", "missing")
MAX_REASONS = 3


def score_rows(
    gold_rows: Sequence[Any],
    prediction_rows: Iterable[Any],
    mode: str = OFFICIAL,
    generation: str | None = None,
    sources: Sequence[Source] = (),
) -> dict[str, Any]:
    """Return the scores of each task, their mean (0-1) and the official map of them times 100.

    gold_rows: task_dataset, sample_id, target and answer_choices of any of the tasks, any order;
    `answer` in the place of target holds a structure instead of a text.
    prediction_rows: sample_id and the generated text as prediction, predict, output or target.
    generation, sources: see `Options`. Of several predictions for one sample the first counts.
    Raises DataError at a gold row that cannot be used, ConfigError at an unknown mode.
    """
    options = Options(mode, generation, sources)
    predictions = Predictions(prediction_rows)
    items = list(join(gold_rows, predictions, options))
    by_task = {
        task: score_task(task, own)
        for task in TASKS
        if (own := [item for item in items if item.task == task])
    }
    overall = sum(scores["primary"] for scores in by_task.values()) / len(by_task)
    percentages = {
        f"{task}-{TASKS[task].measure.official_name}": 100 * scores["primary"]
        for task, scores in by_task.items()
    }
    return {
        **by_task,
        "Overall": overall,
        "official_score_map": {**percentages, "score": 100 * overall},
        "mode": mode,
        "generation": options.generation_of(gold_rows),
        "num_items": len(items),
        **{name: sum(scores[name] for scores in by_task.values()) for name in DOUBTS},
        "unused_predictions": predictions.num_unused,
        "duplicate_ids": predictions.num_repeated,
    }


def score_task(task: str, items: Sequence[Item]) -> dict[str, Any]:
    """Return the metrics of one task and how many of its predictions were not what they should be.

    malformed: the official parser stops at them; unread: it passes over something; missing: none.
    """
    counts = [item.counts for item in items]
    sums: Counts = {}
    for item in counts:
        for name, value in item.items():
            sums[name] = sums.get(name, 0.0) + value
    scores = {
        name: float(metric.of_sums(np.array([sums[column] for column in metric.columns])))
        for name, metric in metrics_of(task, counts).items()
    }
    reasons = [item.parsed.malformed for item in items if item.parsed.malformed]
    return {
        **scores,
        "primary": scores[TASKS[task].measure.primary],
        "num_items": len(items),
        "malformed": len(reasons),
        "malformed_reasons": list(dict.fromkeys(reasons))[:MAX_REASONS],
        "unread": sum(bool(item.parsed.unread) and not item.is_missing for item in items),
        "missing": sum(item.is_missing for item in items),
    }
