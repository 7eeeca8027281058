"""Perplexity of cases in files: labels and logits, in one row or in gold and prediction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from medtune.data.formats.checks import MalformedRow
from medtune.evaluation.score.files import (
    GoldRow,
    Joined,
    first_by_name,
    id_of,
    join,
    join_by_order,
)
from medtune.evaluation.scorers.perplexity import (
    IGNORE_INDEX,
    SequenceLoss,
    measure_losses,
    pooled_perplexity,
    sequence_losses,
)


class LogitCase(NamedTuple):
    """Sequences to be measured together: labels (sequences, time) and batches of their indices."""

    labels: list[list[int]]
    batches: list[list[int]] | None


def score_logit_cases(gold: Sequence[GoldRow], predictions: Sequence[Any], mode: str) -> dict:
    """Return the numbers of each case, and of all their labels together.

    A single case's numbers stand at the top; several are pooled there, token by token. A case whose
    logits are missing or do not fit has null numbers and is counted.   mode: has no influence.
    Raises DataError for labels or batches that are none.
    """
    joined = join_cases(gold, predictions)
    counts = dict(joined.counts)
    results: list[dict[str, Any]] = []
    losses: list[SequenceLoss] = []
    for number, (row, value) in enumerate(zip(gold, joined.of_gold, strict=True)):
        case = logit_case(row, value)
        result: dict[str, Any] = {"name": id_of(row.row, ("name", "id")) or number}
        try:
            own = sequence_losses(logits_of(row, value), case.labels)
            result.update(measure_losses(own, case.batches))
            losses += own
        except (ValueError, TypeError, OverflowError) as error:
            counts["malformed"] += value is not None and not isinstance(value, MalformedRow)
            result["problem"] = f"{error}" or "expected logits, found none"
        results.append(result)
    numbers: dict[str, Any] = pooled_perplexity(losses)
    if len(results) == 1:
        numbers |= {key: results[0][key] for key in results[0] if key not in ("name", "problem")}
    measured = sum("problem" not in result for result in results)
    return {**numbers, "measured": measured, **counts, "cases": results}


def join_cases(gold: Sequence[GoldRow], predictions: Sequence[Any]) -> Joined:
    """Join by id, by name where names are told apart, else by line order.

    The logits of a single case may be a file of their own, a row for each sequence.
    """
    if len(gold) == 1 and len(predictions) > 1 and all(depth(value) == 2 for value in predictions):
        predictions = [list(predictions)]
    if any(id_of(row.row) for row in gold):
        return join(gold, predictions)
    names = [id_of(row.row, ("name",)) for row in gold]
    own = [id_of(value, ("name",)) for value in predictions]
    if None in names or None in own or len(set(names)) < len(names) or set(own) - set(names):
        return join_by_order(gold, predictions)
    by_name = first_by_name(own, predictions)
    duplicates = len(own) - len(by_name)
    missing = len(names) - len(by_name)
    counts = {"missing": missing, "malformed": 0, "unknown_ids": 0, "duplicate_ids": duplicates}
    return Joined([by_name.get(name) for name in names], counts)


def logit_case(gold: GoldRow, value: Any) -> LogitCase:
    """Return labels and batches of a gold row; labels may also stand beside the logits.

    Raises DataError where they are no whole numbers, or a batch names a sequence that is not there.
    """
    labels = gold.row.get("labels")
    if labels is None and isinstance(value, dict) and are_labels(value.get("labels")):
        labels = value["labels"]
    labels = [labels] if are_whole_numbers(labels) else labels
    if not isinstance(labels, list) or not are_labels(labels):
        raise gold.error(f"a list of token ids ({IGNORE_INDEX} is left out) a sequence", "labels")
    batches = gold.row.get("eval_batches")
    if batches is not None and not (
        isinstance(batches, list)
        and all(isinstance(batch, list) and are_whole_numbers(batch) for batch in batches)
        and all(0 <= index < len(labels) for batch in batches for index in batch)
    ):
        raise gold.error(f"lists of indices below {len(labels)}", "eval_batches")
    return LogitCase(labels, batches)


def are_labels(value: Any) -> bool:
    """True for a list of token ids, or a list of such lists."""
    return (
        isinstance(value, list)
        and bool(value)
        and (are_whole_numbers(value) or all(are_whole_numbers(labels) for labels in value))
    )


def are_whole_numbers(value: Any) -> bool:
    """True for a list of ids that may be labels."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(label) is int and (label >= 0 or label == IGNORE_INDEX) for label in value)
    )


def logits_of(gold: GoldRow, value: Any) -> list[Any]:
    """Return the logits of a case, one (time, vocabulary) for each sequence.

    They stand in the prediction, alone or under `logits`; a gold row that is a whole case holds
    them too.   Raises ValueError where there are none.
    """
    logits = value.get("logits") if isinstance(value, dict) else value
    if logits is None and value is not None:
        logits = gold.row.get("logits")
    if not isinstance(logits, list):
        raise ValueError("expected logits, found none")
    return [logits] if depth(logits) == 2 else logits


def depth(value: Any) -> int:
    """Return how deep lists are nested in their first elements: 2 for (time, vocabulary)."""
    levels = 0
    while isinstance(value, list):
        value = value[0] if value else None
        levels += 1
    return levels
