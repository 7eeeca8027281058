"""The steps that every stage shares: start the run, then train, save, evaluate and close it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed

from medtune.arguments import StageArguments
from medtune.common.errors import MedtuneError
from medtune.common.files import write_json
from medtune.common.lineage import describe_data, describe_weights
from medtune.common.log import is_main_process, logger
from medtune.data.loading import data_files
from medtune.data.rows import Rows
from medtune.models.adapters import count_parameters
from medtune.models.loading import resolve_model
from medtune.training.progress import Progress, draw_curve
from medtune.training.run_folder import RunFolder, describe_inputs
from medtune.training.trainers import LanguageModelTrainer, PreferenceTrainer

EVAL_KEYS = ("eval_loss", "eval_perplexity", "eval_num_tokens", "eval_rewards/accuracies")


@dataclass
class Run:
    """A started run: its folder and whether it goes on from a checkpoint."""

    folder: RunFolder
    is_resumed: bool
    started: float  # time.monotonic()


def start_run(stage: str, arguments: StageArguments[Any]) -> Run:
    """Seed everything, check the output folder and say what is about to happen.

    A run that is already complete ends the program with exit code 0.
    Raises ConfigError or CheckpointError before anything is written.
    """
    set_seed(arguments.training.seed)
    join_deepspeed(arguments.training)
    options = arguments.to_dict()
    base = resolve_model(arguments.model.model_name_or_path)
    status: list[Any] = [None, None]
    if is_main_process():
        try:
            weights = describe_weights(base)
            if arguments.adapter.peft_path:
                weights["adapter"] = describe_weights(arguments.adapter.peft_path)
            data = describe_data(data_files(arguments.data))
            inputs = describe_inputs(stage, options, weights, data)
            folder = RunFolder(Path(arguments.training.output_dir), inputs, options)
            status = [folder.status(), inputs]
        except MedtuneError as error:
            status = [error, None]
    if PartialState().num_processes > 1:
        broadcast_object_list(status)
    if isinstance(status[0], MedtuneError):
        raise status[0]
    folder = RunFolder(Path(arguments.training.output_dir), status[1], options)
    if status[0] == "complete":
        logger.info("%s is complete: nothing to do", folder.path)
        PartialState().destroy_process_group()
        raise SystemExit(0)
    device = "GPU" if torch.cuda.is_available() and not arguments.training.use_cpu else "CPU"
    logger.info(
        "%s: %s -> %s, on %s %s", stage, base, folder.path, PartialState().num_processes, device
    )
    return Run(folder, is_resumed=status[0] == "resume", started=time.monotonic())


def join_deepspeed(training: TrainingArguments) -> None:
    """Tell DeepSpeed of the processes that are there; on a CPU the trainer's config does not.

    ZeRO-3 shards the model while it is loaded, and would take each process for the only one.
    """
    if training.deepspeed and training.use_cpu and PartialState().num_processes > 1:
        import deepspeed  # slow to import, and needed here alone

        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)


def run_training(
    run: Run,
    trainer: LanguageModelTrainer | PreferenceTrainer,
    rows: Rows,
    stop_token_ids: list[int] | None = None,
) -> None:
    """Train (from the newest checkpoint if there is one), save, evaluate, draw, mark complete.

    stop_token_ids: what generation shall stop at from now on; None keeps the model's own.
    """
    folder = run.folder
    if is_main_process():
        folder.open(rows)
    trainer.accelerator.wait_for_everyone()
    prepare_callbacks(trainer, folder.path)
    log_plan(trainer, rows.ledger)
    checkpoint = folder.newest_checkpoint() if run.is_resumed else None
    if checkpoint:
        logger.info("continuing from %s", checkpoint)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    train_results = {
        **result.metrics,
        "steps": result.global_step,
        "num_tokens": trainer.total_tokens_seen(),
    }
    trainer.save_model()  # on every process: under ZeRO-3 it gathers
    eval_results = last_evaluation(trainer)
    if is_main_process():
        if stop_token_ids is not None:
            trainer.model.generation_config.eos_token_id = stop_token_ids
        trainer.model.generation_config.save_pretrained(folder.path)
        write_results(run, train_results, eval_results)
    # Without this, processes that leave at different times abort each other.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


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


def prepare_callbacks(trainer: Any, folder: Path) -> None:
    """Put our progress lines in the place of the library's."""
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Progress(folder))


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
