"""One measurement in a process of its own, so that its peak of memory is its own.

Started by bench/run.py: python -m bench.measure JOB.json RESULT.json. A job says which system to
run and whether to train (timed) or only to compute log-probabilities before the first step.
"""

import gc
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.cases import Case
from bench.flops import measure_gemm_rate
from bench.models import build_config
from bench.systems import SYSTEMS, Job

BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MB of a million bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_UNIT / 1e6


# -- the gate: log-probabilities before the first step


def compute_log_probs(trainer: Any) -> dict[str, float]:
    """Return each example's summed log-probability of its labelled tokens (nats), by its ids.

    The sums come from the trainer's own loss computation on its own batches; float64.
    """
    seen: list[Any] = []
    # The hook sees the policy's pass and, in DPO, the reference's after it.
    hook = trainer.model.register_forward_hook(lambda _, __, output: seen.append(output.log_probs))
    sums: dict[str, float] = {}
    trainer.model.train()
    for batch in trainer.get_train_dataloader():
        batch.pop("num_tokens", None)  # medtune's count; its training step removes it too
        documents = find_documents(batch)
        ids = batch["input_ids"]
        with torch.no_grad():
            trainer.compute_loss(trainer.model, batch)
        log_probs = seen[0].double()
        seen.clear()
        for row, start, end in documents:
            # column j scores token j + 1; what is not labelled is 0
            value = log_probs[row, start : end - 1].sum()
            sums[name_of_ids(ids[row, start:end])] = float(value)
    hook.remove()
    return sums


def find_documents(batch: dict[str, torch.Tensor]) -> list[tuple[int, int, int]]:
    """Return (row, start, end) of every example in a batch, padding left out."""
    rows = range(len(batch["input_ids"]))
    if "position_ids" not in batch:
        lengths = batch["attention_mask"].sum(1).tolist()
        return [(row, 0, length) for row, length in zip(rows, lengths, strict=True)]
    found = []
    for row in rows:
        starts = (batch["position_ids"][row] == 0).nonzero().flatten().tolist()
        ends = [*starts[1:], batch["position_ids"].size(1)]
        found += [(row, start, end) for start, end in zip(starts, ends, strict=True)]
    return [part for part in found if is_labelled(batch, *part)]


def is_labelled(batch: dict[str, torch.Tensor], row: int, start: int, end: int) -> bool:
    """True if a document has a label: padding, which is a document of its own, has none."""
    return bool((batch["labels"][row, start:end] != -100).any())


def name_of_ids(ids: torch.Tensor) -> str:
    """Return a short name of an example, the same in every system."""
    return hashlib.sha256(repr(ids.tolist()).encode()).hexdigest()[:16]


# -- the timed run


def train(build: Callable[[Job], Any], job: Job) -> dict[str, Any]:
    """Train once, after a warm-up step on another trainer, and return what was measured."""
    gemm_rate = measure_gemm_rate(build_config(job.case.model))
    warm_up = replace(job, rows=job.rows[: job.case.batch_size])
    build(replace(warm_up, case=replace(job.case, num_epochs=1))).train()
    gc.collect()

    start = time.perf_counter()
    trainer = build(job)
    build_seconds = time.perf_counter() - start
    losses = record_losses(trainer)
    baseline_mb = current_memory_mb()
    output = trainer.train()
    return {
        "build_seconds": build_seconds,
        "train_seconds": output.metrics["train_runtime"],
        "num_steps": trainer.state.global_step,
        "losses": [float(loss) for loss in losses],
        "memory_before_mb": baseline_mb,
        "memory_peak_mb": peak_memory_mb(),
        "gemm_gflops": gemm_rate / 1e9,
    }


def record_losses(trainer: Any) -> list[torch.Tensor]:
    """Return a list that will hold the loss of every step, unrounded."""
    losses: list[torch.Tensor] = []
    step = trainer.training_step

    def recording_step(*args: Any, **kwargs: Any) -> torch.Tensor:
        losses.append(step(*args, **kwargs))
        return losses[-1]

    trainer.training_step = recording_step
    return losses


def current_memory_mb() -> float:
    """Return the resident size now, in MB; the peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_memory_mb()
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6


def main(job_file: str, result_file: str) -> None:
    """Do one job and write its result."""
    job_json = json.loads(Path(job_file).read_text(encoding="utf-8"))
    torch.set_num_threads(job_json["num_threads"])
    # Nothing that an earlier measurement kept may spare this one its work.
    os.environ["MEDTUNE_CACHE"] = tempfile.mkdtemp(dir=Path(job_file).parent)
    case = Case(**job_json["case"])
    folder = Path(job_file).parent
    rows = json.loads(Path(job_json["rows"]).read_text(encoding="utf-8"))
    job = Job(case, rows, Path(job_json["tokenizer"]), folder / "output")
    build = SYSTEMS[job_json["system"]]
    if job_json["task"] == "gate":
        result: dict[str, Any] = {"log_probs": compute_log_probs(build(job))}
    else:
        result = train(build, job)
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
