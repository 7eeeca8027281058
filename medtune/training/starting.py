"""How a run starts: whose the folder is, what it goes on from, whether there is room."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock
from transformers import TrainingArguments, set_seed

from medtune.arguments import AUTO, RunArguments, StageArguments
from medtune.common.disk import check_room, size
from medtune.common.errors import ConfigError, MedtuneError
from medtune.common.files import sha256_of_file
from medtune.common.lineage import describe_data, describe_tokenizer, describe_weights
from medtune.common.log import is_main_process, logger
from medtune.data.loading import data_files
from medtune.data.rows import Rows
from medtune.models.loading import find_tokenizer, resolve_model
from medtune.training.checkpoints.exactness import (
    check_changeable,
    check_resumable,
    count_skipped_rows,
)
from medtune.training.checkpoints.finding import checkpoints_of, chosen_by_user, newest_committed
from medtune.training.checkpoints.manifest import read_manifest
from medtune.training.guards.disk import checkpoint_bytes, final_bytes
from medtune.training.replies import Asked, Scorer, read_asked
from medtune.training.run_folder import RunFolder, describe_inputs

NEVER = "never"


@dataclass
class Run:
    """A started run: its folder, how it may go on, and whether there is anything to go on from."""

    folder: RunFolder
    options: RunArguments
    is_resumed: bool
    started: float  # time.monotonic()
    lock: FileLock | None = None  # of the folder, on the main process
    asked: Asked = field(default_factory=Asked)  # of the model, at each evaluation


def start_run(stage: str, arguments: StageArguments[Any], scorer: Scorer | None = None) -> Run:
    """Seed everything, check the output folder and say what is about to happen.

    scorer: compares a generated reply with that of the data, for --predict_with_generate.
    A run that is already complete ends the program with exit code 0.
    Raises ConfigError, DataError or CheckpointError before anything is written.
    """
    check_resumable(arguments.training)
    check_changeable(arguments.run.allow_change)
    asked = read_asked(stage, arguments.run, scorer)
    set_seed(arguments.training.seed)
    join_deepspeed(arguments.training)
    options = arguments.to_dict()
    base = resolve_model(arguments.model.model_name_or_path)
    data_files(arguments.data)  # each process, so that none waits for another one's download
    status: list[Any] = [None, None]
    if is_main_process():
        try:
            folder = describe_run(stage, arguments, options, base)
            status = [folder.status(arguments.run.allow_change), folder]
            if status[0] == "complete" and folder.changes:
                raise ConfigError(
                    f"--allow_change: expected an unfinished run, found {folder.path} complete. To "
                    f"train it on, name another --output_dir and --peft_path {folder.path}."
                )
            if status[0] != "new" and arguments.run.resume == NEVER:
                raise ConfigError(
                    f"--resume never: expected a new or empty folder, found a run in {folder.path}."
                )
        except MedtuneError as error:
            status = [error, None]
    if PartialState().num_processes > 1:
        broadcast_object_list(status)
    if isinstance(status[0], MedtuneError):
        raise status[0]
    folder = status[1]
    if status[0] == "complete":
        logger.info("%s is complete: nothing to do", folder.path)
        PartialState().destroy_process_group()
        raise SystemExit(0)
    for change in folder.changes:
        logger.warning("--allow_change: %s", change)
    device = "GPU" if torch.cuda.is_available() and not arguments.training.use_cpu else "CPU"
    logger.info(
        "%s: %s -> %s, on %s %s", stage, base, folder.path, PartialState().num_processes, device
    )
    is_resumed = status[0] == "resume"
    return Run(folder, arguments.run, is_resumed, time.monotonic(), asked=asked)


def describe_run(
    stage: str, arguments: StageArguments[Any], options: dict[str, Any], base: str
) -> RunFolder:
    """Return the folder of a run with the hashes of all that goes into it."""
    weights = describe_weights(base)
    if arguments.adapter.peft_path:
        weights["adapter"] = describe_weights(arguments.adapter.peft_path)
    tokenizer = describe_tokenizer(find_tokenizer(arguments.model, arguments.adapter.peft_path))
    if arguments.adapter.add_tokens:
        tokenizer |= {"added_tokens": sha256_of_file(Path(arguments.adapter.add_tokens))}
    data = describe_data(data_files(arguments.data))
    inputs = describe_inputs(stage, options, weights, tokenizer, data)
    return RunFolder(Path(arguments.training.output_dir), inputs, options)


def join_deepspeed(training: TrainingArguments) -> None:
    """Tell DeepSpeed of the processes that are there; on a CPU the trainer's config does not.

    ZeRO-3 shards the model while it is loaded, and would take each process for the only one.
    """
    if training.deepspeed and training.use_cpu and PartialState().num_processes > 1:
        import deepspeed  # slow to import, and needed here alone

        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)


def begin(run: Run, trainer: Any, rows: Rows) -> str | None:
    """Open the folder and return the checkpoint to go on from, the same on every process.

    Raises CheckpointError for a checkpoint that --resume names and that cannot be used, and
    DiskError if the run will find no room.
    """
    folder = run.folder
    found: list[Any] = [None, folder, {}]
    if is_main_process():
        try:
            check_run_room(trainer, folder.path)
            run.lock = folder.lock()
            if folder.status(run.options.allow_change) == "complete":
                raise ConfigError(f"{folder.path}: another process has completed it meanwhile.")
            folder.open(rows)
            checkpoint = find_checkpoint(run)
            totals = (read_manifest(checkpoint) or {}) if checkpoint else {}
            found = [checkpoint and str(checkpoint), folder, totals]
        except MedtuneError as error:
            found = [error, folder, {}]
    if PartialState().num_processes > 1:
        broadcast_object_list(found)
    checkpoint, folder, totals = found
    if isinstance(checkpoint, MedtuneError):
        raise checkpoint
    run.folder = folder  # on every process that which has been opened
    trainer.run_id = folder.run_id
    trainer.has_changed_options = bool(folder.changes)
    trainer.num_kept, trainer.args.save_total_limit = trainer.args.save_total_limit, None
    if checkpoint:
        logger.info("continuing from %s", checkpoint)
        count_skipped_rows()
        trainer.seconds_before = totals["seconds"]
        if is_main_process():
            trainer.tokens_seen = totals["num_tokens"]
    elif run.is_resumed:
        logger.info("no checkpoint that is whole: from the start")
    return checkpoint


def find_checkpoint(run: Run) -> Path | None:
    """Return the checkpoint that --resume means. Raises CheckpointError."""
    if run.options.resume not in (AUTO, NEVER):
        return chosen_by_user(run.options.resume, run.folder.path, run.folder.run_id)
    return newest_committed(run.folder.path, run.folder.run_id)


def check_run_room(trainer: Any, folder: Path) -> None:
    """Raise DiskError if the checkpoints that are kept and the result will not fit on the disk."""
    num_kept = trainer.args.save_total_limit
    has_saves = trainer.args.save_strategy != "no"
    files = (file for path in checkpoints_of(folder) for file in path.rglob("*"))
    there = sum(file.stat().st_size for file in files if file.is_file())
    one = checkpoint_bytes(trainer.model)
    # One more than are kept: the new one is written before the oldest is removed.
    need = one * ((num_kept or 1) + 1) * has_saves + final_bytes(trainer.model) - there
    what = f"{num_kept or 1} checkpoints of {size(one)}, one more while it is written, the result"
    check_room(folder, max(need, 0), what)
