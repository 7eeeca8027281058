"""The reference's log-probabilities: computed once, in order of length, and kept on disk.

They depend on the pairs' tokens and on the reference's weights, so that is what names the file:
another run on the same data and base reads it, one on other weights never does. Finished batches
are appended as they come; an interrupted run goes on behind the last whole line.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from trl.models import prepare_deepspeed

from medtune.common.cache import cache_root
from medtune.common.files import write_text
from medtune.common.lineage import describe_weights
from medtune.common.log import is_main_process, logger
from medtune.data.rows import row_lengths
from medtune.models.quantisation import bits_of
from medtune.training.token_batches import fill_bins

CHOSEN, REJECTED = "ref_chosen_logps", "ref_rejected_logps"
Scores = dict[int, tuple[float, float]]  # row -> log-probability of its chosen, rejected answer


def add_reference(trainer: Any, rows: Dataset, weights: list[str], part: str) -> Dataset:
    """Return the pairs with the columns `ref_chosen_logps` and `ref_rejected_logps` (float32).

    trainer: a DPOTrainer before its first step.   weights: folders whose files are the reference.
    """
    shared: list[Any] = [None, None]
    if is_main_process():
        path = cache_path(trainer, rows, weights)
        shared = [path, read_scores(path, len(rows))]
    if trainer.accelerator.num_processes > 1:
        broadcast_object_list(shared)
    path, known = shared
    started = time.monotonic()
    missing = [row for row in range(len(rows)) if row not in known]
    for found in compute_missing(trainer, rows, missing):
        known |= found
        if is_main_process():
            append_scores(path, found)
    if missing:
        logger.info(
            "reference log-probabilities (%s): %s pairs in %.0f s, kept in %s",
            part, f"{len(missing):,}", time.monotonic() - started, path,
        )  # fmt: skip
    else:
        logger.info("reference log-probabilities (%s): read from %s", part, path)
    for column, name in enumerate((CHOSEN, REJECTED)):
        values = np.array([known[row][column] for row in range(len(rows))], dtype=np.float32)
        rows = rows.add_column(name, values)
    return rows


def cache_path(trainer: Any, rows: Dataset, weights: list[str]) -> Path:
    """Return the file for these pairs and this reference."""
    described = [describe_weights(folder)["sha256"] or folder for folder in weights]
    # A hub name has no files to hash here; the commit it was loaded from tells its versions apart.
    commit = getattr(trainer.model.config, "_commit_hash", None)
    facts = [described, commit, trainer.ld_alpha, str(trainer.model.dtype), trainer.args.bf16]
    facts.append(bits_of(trainer.model))
    digest = hashlib.sha256(json.dumps(facts).encode())
    # What --add_tokens has added has rows that no folder holds.
    digest.update(json.dumps(sorted(trainer.processing_class.get_added_vocab())).encode())
    for start in range(0, len(rows), 1000):
        table = rows.with_format("arrow")[start : start + 1000]
        for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
            digest.update(json.dumps(table.column(name).to_pylist()).encode())
    return cache_root() / f"reference-{digest.hexdigest()[:16]}.jsonl"


def read_scores(path: Path, num_rows: int) -> Scores:
    """Return what earlier runs finished; a line that was cut off by a crash is removed."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return {}
    scores: Scores = {}
    whole = []
    text = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        try:
            found = {row: (one, other) for row, one, other in json.loads(line)}
        except ValueError:
            logger.warning("%s: leaving out a line that an interrupted run cut off", path)
            break
        scores |= {row: pair for row, pair in found.items() if row < num_rows}
        whole.append(line)
    mended = "".join(f"{line}\n" for line in whole)
    if mended != text:
        write_text(path, mended)
    return scores


def append_scores(path: Path, scores: Scores) -> None:
    """Add one line [[row, chosen, rejected], ...]."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([[row, *pair] for row, pair in scores.items()]) + "\n")


def compute_missing(trainer: Any, rows: Dataset, missing: list[int]) -> Iterator[Scores]:
    """Yield the scores of one batch per process after another, the longest pairs first."""
    if not missing:
        return
    accelerator = trainer.accelerator
    lengths = row_lengths(rows)
    arguments = trainer.args
    budget = max(lengths) * (
        arguments.precompute_ref_batch_size or arguments.per_device_eval_batch_size
    )
    bins = fill_bins(lengths, budget, missing)
    model = trainer.ref_model or trainer.model
    if trainer.is_deepspeed_enabled and trainer.ref_model is None:
        model = prepare_deepspeed(trainer.model, accelerator)
    num, rank = accelerator.num_processes, accelerator.process_index
    was_training = model.training
    model.eval()
    for start in range(0, len(bins), num):
        group = bins[start : start + num]
        mine = group[min(rank, len(group) - 1)]  # all take part: a sharded model needs them
        features = [rows[row] for row in mine]
        batch = trainer._prepare_inputs(trainer.data_collator(features))
        with torch.no_grad():
            chosen, rejected = trainer.compute_ref_log_probs(model, batch)
        scored = list(zip(mine, chosen.float().tolist(), rejected.float().tolist(), strict=True))
        gathered = gather_object(scored) if num > 1 else scored
        yield {row: (one, other) for row, one, other in gathered}
    model.train(was_training)
