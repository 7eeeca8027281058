"""The steps that every stage shares: start the run, then train, save, evaluate and close it."""

import time
from pathlib import Path
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)
from transformers.integrations import TensorBoardCallback

from medtune.arguments import AUTO
from medtune.common.disk import check_room
from medtune.common.errors import Interrupted, PeerLost
from medtune.common.files import write_json
from medtune.common.log import is_main_process, logger
from medtune.common.memory import peak_memory_bytes
from medtune.data.rows import Rows
from medtune.models.adapters import count_parameters
from medtune.training.checkpoints.saving import Cadence
from medtune.training.guards.board import Board
from medtune.training.guards.disk import final_bytes
from medtune.training.guards.finite import FiniteGuard
from medtune.training.guards.hang import HangWatch
from medtune.training.guards.memory import (
    LongestBatch,
    first_line,
    is_out_of_memory,
    out_of_memory,
)
from medtune.training.guards.signals import StopOnSignal
from medtune.training.progress import Progress, draw_curve
from medtune.training.replies import build_replies
from medtune.training.samples import SampleFile
from medtune.training.starting import Run, begin
from medtune.training.trainers import LanguageModelTrainer, PreferenceTrainer

# What gloo and NCCL say when the other end of a connection has ended.
PEER_LOST = ("closed by peer", "reset by peer", "remote process exited", "Broken pipe")
EVAL_KEYS = (
    "eval_loss", "eval_perplexity", "eval_num_tokens", "eval_rewards/accuracies",
    "eval_rouge-1", "eval_rouge-2", "eval_rouge-l", "eval_bleu-4-char",
)  # fmt: skip


def run_training(
    run: Run,
    trainer: LanguageModelTrainer | PreferenceTrainer,
    rows: Rows,
    stop_token_ids: list[int] | None = None,
) -> None:
    """Train (from the newest checkpoint if there is one), save, evaluate, draw, mark complete.

    stop_token_ids: what generation shall stop at from now on; None keeps the model's own.
    Raises Interrupted after a signal, NonFiniteError, DiskError.
    """
    try:
        train_and_save(run, trainer, rows, stop_token_ids)
    finally:
        if run.lock is not None:
            run.lock.release()


def train_and_save(
    run: Run,
    trainer: LanguageModelTrainer | PreferenceTrainer,
    rows: Rows,
    stop_token_ids: list[int] | None,
) -> None:
    """Do what run_training says, in a folder that is this run's alone from `begin` on."""
    folder = run.folder
    trainer.replies = build_replies(run.asked, run.options, trainer, rows, stop_token_ids)
    checkpoint = begin(run, trainer, rows)
    signals, _ = guards = prepare_callbacks(run, trainer, rows)
    log_plan(trainer, rows.ledger)
    try:
        result = trainer.train(resume_from_checkpoint=checkpoint)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(trainer, error) from error
        if any(words in str(error) for words in PEER_LOST):
            raise PeerLost(
                f"process {trainer.args.process_index}: another process of this run is gone "
                f"({first_line(error)}). What it said stands in its own log; run the same command "
                "again on all machines: it continues from the newest checkpoint."
            ) from error
        raise
    finally:
        for guard in guards:
            guard.close()
    if signals.received:
        trainer.accelerator.wait_for_everyone()
        raise Interrupted(
            f"interrupted after step {result.global_step}, with a checkpoint: run the same command "
            "again to continue" + ", without --resume" * (run.options.resume != AUTO),
            signals.received,
        )
    totals = trainer.totals()
    train_results = {
        **result.metrics,
        "train_loss": mean_loss(trainer.state.log_history),
        "train_runtime": totals["seconds"],
        "steps": result.global_step,
        "num_tokens": totals["num_tokens"],
        "checkpoint_commit_seconds": round(trainer.commit_seconds, 3),
        "checkpoint_commit_bytes": trainer.commit_bytes,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    check_final_room(trainer, folder.path)
    trainer.save_model()  # on every process: under ZeRO-3 it gathers
    trainer.finish_adapter(folder.path)
    eval_results = last_evaluation(trainer)
    if is_main_process():
        if stop_token_ids is not None:
            trainer.model.generation_config.eos_token_id = stop_token_ids
        trainer.model.generation_config.save_pretrained(folder.path)
        write_results(run, train_results, eval_results)
    # Without this, processes that leave at different times abort each other.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def check_final_room(trainer: Any, folder: Path) -> None:
    """Raise DiskError if the result does not fit."""
    if is_main_process():
        check_room(folder, final_bytes(trainer.model), "the result")


def mean_loss(history: list[dict[str, Any]]) -> float | None:
    """Return the mean of all training losses that were logged, also before an interruption."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return sum(losses) / len(losses) if losses else None


def write_results(run: Run, train_results: dict[str, Any], eval_results: dict[str, float]) -> None:
    """Write both results and the curve, and mark the run complete."""
    folder = run.folder
    speed = train_results["num_tokens"] / train_results["train_runtime"]
    write_json(folder.path / "train_results.json", {**train_results, "tokens_per_second": speed})
    write_json(folder.path / "eval_results.json", eval_results)
    draw_curve(folder.path, f"{folder.inputs['stage']}: {folder.path.name}")
    elapsed = round(time.monotonic() - run.started, 1)
    folder.close(steps=train_results["steps"], seconds=elapsed, **eval_results)
    logger.info(
        "complete: %s  (loss %.4f, perplexity %.2f on validation; %s tokens/s)",
        folder.path,
        eval_results["eval_loss"],
        eval_results["perplexity"],
        f"{speed:,.0f}",
    )


def prepare_callbacks(run: Run, trainer: Any, rows: Rows) -> tuple[StopOnSignal, HangWatch]:
    """Put our progress lines in the place of the library's and the guards before them.

    Returns those to close when the training has ended, however it does.
    """
    folder = run.folder.path
    for callback in (ProgressCallback, PrinterCallback, TensorBoardCallback):
        trainer.remove_callback(callback)
    signals, hang = StopOnSignal(folder), HangWatch(run.options.hang_timeout_s)
    callbacks: list[TrainerCallback] = [
        Cadence(),
        hang,
        LongestBatch(trainer),
        FiniteGuard(folder, trainer, rows, run.options.max_skipped_steps),
        signals,
        Progress(folder),
    ]
    listeners = []
    samples = SampleFile(folder)
    callbacks.append(samples)
    if is_main_process():
        listeners.append(samples.add)
    if "tensorboard" in trainer.args.report_to:
        board = Board(folder)
        callbacks.append(board)
        if is_main_process():
            listeners.append(board.add_samples)
    if trainer.replies is not None:
        trainer.replies.listeners = listeners
    for callback in callbacks:
        trainer.add_callback(callback)
    return signals, hang


def describe_steps(trainer: Any, num_tokens: int) -> str:
    """Return how many rows and tokens an optimizer step has, and how many steps there will be.

    num_tokens: of an epoch over all rows.
    """
    arguments = trainer.args
    share = arguments.gradient_accumulation_steps * arguments.world_size  # batches a step
    rows = len(trainer.train_dataset)
    if trainer.speed.tokens_per_batch:
        batches = len(trainer.get_train_dataloader()) * arguments.world_size
        of_batch = f"up to {trainer.speed.tokens_per_batch:,} tokens"
    else:
        batches = -(-rows // arguments.per_device_train_batch_size)
        of_batch = f"{arguments.per_device_train_batch_size} rows"
    steps = arguments.max_steps
    if steps < 0:
        steps = -(-batches // share) * arguments.num_train_epochs
    per_step = min(rows, round(rows * share / batches))
    return (
        f"{per_step:,} rows a step = {of_batch} a device x {arguments.gradient_accumulation_steps} "
        f"accumulated x {arguments.world_size} processes: about "
        f"{num_tokens * per_step // rows:,} tokens; {round(steps):,} steps"
    )


def log_plan(trainer: Any, ledger: dict[str, Any]) -> None:
    """Print the derived numbers: parameters, rows, tokens, steps."""
    trainable, total = count_parameters(trainer.model)
    logger.info(
        "parameters: %s, of which %s trained (%.2f%%)",
        f"{total:,}",
        f"{trainable:,}",
        100 * trainable / total,
    )
    for part, tokens in ledger["tokens"].items():
        logger.info(
            "%s: %s rows, %s tokens, %s supervised; %s tokens cut from %s rows",
            part,
            f"{ledger['training_rows'][part]:,}",
            f"{tokens['kept']:,}",
            f"{tokens['supervised']:,}",
            f"{tokens['truncated']:,}",
            f"{tokens['truncated_rows']:,}",
        )
    logger.info("%s", describe_steps(trainer, ledger["epoch"]["tokens"]))


def last_evaluation(trainer: Any) -> dict[str, float]:
    """Return the validation results after the last step, computed unless they just were."""
    history = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    if history and history[-1]["step"] == trainer.state.global_step and trainer.state.global_step:
        metrics = history[-1]
    else:
        metrics = trainer.evaluate()
    results = {name: metrics[name] for name in EVAL_KEYS if name in metrics}
    results["perplexity"] = results.pop("eval_perplexity")
    results["num_tokens"] = results.pop("eval_num_tokens")
    return results
