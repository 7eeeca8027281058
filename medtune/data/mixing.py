"""Several sources in one epoch, each with its share of the tokens; the replay of general data.

The rows of --train_file_dir are all trained on, once. Of a folder that is mixed in, so many rows
are drawn that they have its percentage of all tokens: in an order that the seed gives, each row as
often as any other or once more. Replaying a few per cent of general text is the known remedy for
forgetting in continued pretraining (Ibrahim et al. 2024, arXiv:2403.08763, section 4).
"""

from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from medtune.common.log import logger
from medtune.data.rows import SOURCE, Rows, row_lengths

MANY_PASSES = 4  # repeated more often, text teaches little more (Muennighoff et al. 2023)


def mix_rows(rows: Rows, percentages: dict[str, float], seed: int) -> Rows:
    """Return the rows with what is mixed into `train`, and the epoch in the ledger.

    percentages: of all tokens of an epoch, for each folder of `rows.mixed`.
    """
    own_tokens = rows.ledger["tokens"]["train"]["kept"]
    own_share = 100 - sum(percentages.values())
    parts: list[Dataset] = [rows.train]
    mix: dict[str, Any] = {}
    for number, (folder, percent) in enumerate(percentages.items()):
        lengths = np.asarray(row_lengths(rows.mixed[folder]))
        drawn = draw_rows(lengths, own_tokens * percent / own_share, [seed, number])
        parts.append(rows.mixed[folder].select(drawn))
        mix[folder] = {
            "percent": percent,
            "rows": len(drawn),
            "tokens": int(lengths[drawn].sum()),
            "passes": round(len(drawn) / len(lengths), 3),
        }
    num_rows = sum(map(len, parts))
    num_tokens = own_tokens + sum(part["tokens"] for part in mix.values())
    for folder, part in mix.items():
        logger.info(
            "mixed in: %s rows of %s, %.2f%% of the tokens, %.2f passes",
            f"{part['rows']:,}", folder, 100 * part["tokens"] / num_tokens, part["passes"],
        )  # fmt: skip
        if part["passes"] > MANY_PASSES:
            logger.warning(
                "%s is repeated %.1f times in each epoch: give more text or a lower percentage",
                folder,
                part["passes"],
            )
    rows.ledger["epoch"] = {"rows": num_rows, "tokens": num_tokens, "mix": mix}
    train = concatenate_datasets(parts) if mix else rows.train
    if SOURCE in train.column_names:
        rows.sources = train.select_columns(SOURCE)
        train = train.remove_columns(SOURCE)
        rows.validation = rows.validation.remove_columns(SOURCE)
    rows.train = train
    return rows


def draw_rows(lengths: np.ndarray, num_tokens: float, seed: list[int]) -> np.ndarray:
    """Return the numbers of rows that have about `num_tokens` tokens: within half of a row.

    lengths: tokens of each row (none 0).
    """
    num_passes, rest = divmod(num_tokens, lengths.sum())
    order = np.random.default_rng(seed).permutation(len(lengths))
    ends = np.cumsum(lengths[order])
    taken = int(np.searchsorted(ends, rest))
    if taken < len(ends) and ends[taken] - rest <= lengths[order[taken]] / 2:
        taken += 1
    rows = np.concatenate([np.tile(order, int(num_passes)), order[:taken]])
    return rows if len(rows) else order[:1]
