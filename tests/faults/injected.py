"""What breaks inside a run: put into the process before the stage's main, never into medtune.

A process that kills itself does so with SIGKILL, so nothing of Python's is run any more.
"""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Moments of a save, in their order, and of the end of a run.
SAVE_POINTS = (
    "before any file", "in the weights", "before the optimizer", "in the optimizer", "before rng",
    "in trainer_state", "before the manifest", "manifest not renamed", "before rotation",
    "in rotation",
)  # fmt: skip
END_POINTS = ("in the final weights", "before COMPLETE", "after COMPLETE")


@dataclass
class Fault:
    """One thing that goes wrong in one process.

    kind: "kill" and "full" in a save; "step kill", "nan", "signal", "hang" and "raise" in a step.
    point: of the save.   at: the number of the save of this start, or of the step, from 1.
    rank: whose.   steps: how many of them "nan" takes.   signal: its number.
    once: a file that says that it has happened.   filler: a file to fill the disk with; without
    one "full" raises what a full disk raises.
    """

    kind: str
    point: str = ""
    at: int = 1
    rank: int = 0
    steps: int = 1
    signal: int = signal.SIGTERM
    once: str = ""
    filler: str = ""


def kill_self() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def install(fault: Fault | None) -> None:
    """Break this process in the way that a fault says."""
    if fault is None or int(os.environ.get("RANK", "0")) != fault.rank:
        return
    if fault.kind in ("kill", "full"):
        break_save(fault)
    else:
        break_step(fault)


def strike(fault: Fault) -> None:
    """Do what the fault does at its moment in a save."""
    if fault.kind == "kill":
        kill_self()
    elif fault.filler:
        fill(Path(fault.filler))
    else:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill(path: Path) -> None:
    """Leave 4 KiB of the file system that a path is on."""
    free = shutil.disk_usage(path.parent).free
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - 4096)


# -- steps


def break_step(fault: Fault) -> None:
    """Break a training step, by its number."""
    from medtune.training.ready_rows import ReadyRows
    from medtune.training.trainers import LanguageModelTrainer, PreferenceTrainer

    def is_due(trainer: Any) -> bool:
        is_in_time = fault.at <= trainer.state.global_step + 1 < fault.at + fault.steps
        if not is_in_time or (fault.once and Path(fault.once).exists()):
            return False
        if fault.once:
            Path(fault.once).touch()
        return True

    if fault.kind == "nan":

        def spoil(loss: Any, trainer: Any, *_: Any) -> Any:
            # The longest batch is tried before the first step: that is none of a step.
            is_training = trainer.model.training and trainer.step_losses is not None
            return loss * float("nan") if is_training and is_due(trainer) else loss

        wrap(LanguageModelTrainer, "compute_loss", after=spoil)
        wrap(PreferenceTrainer, "compute_loss", after=spoil)
        return
    strikes: dict[str, Callable[[], None]] = {
        "step kill": kill_self,
        "signal": lambda: os.kill(os.getpid(), fault.signal),
        "hang": lambda: time.sleep(3600),
        "raise": fail,
    }
    action, count = strikes[fault.kind], [0]

    def before(trainer: Any, *_: Any, **__: Any) -> None:
        if not count[0] and is_due(trainer):
            count[0] += 1
            action()

    wrap(ReadyRows, "training_step", before=before)


def fail() -> None:
    """Raise what nobody foresees."""
    raise RuntimeError("injected")


# -- saves


def break_save(fault: Fault) -> None:
    """Break the save whose number is `fault.at`, at a point of it, or the end of the run."""
    from medtune.training import run_folder
    from medtune.training.checkpoints import saving

    count = [0]

    def next_save(*_: Any, **__: Any) -> None:
        count[0] += 1
        if fault.point == "before any file" and count[0] == fault.at:
            strike(fault)

    def is_due() -> bool:
        return count[0] == fault.at

    wrap(saving.CommittedSaves, "_save_checkpoint", before=next_save)
    if fault.point == "in the weights":
        wrap_weights(fault, lambda folder: is_due() and folder.name.startswith("checkpoint-"))
    elif fault.point == "in the final weights":
        wrap_weights(fault, lambda folder: not folder.name.startswith("checkpoint-"))
    elif fault.point in ("before COMPLETE", "after COMPLETE"):
        moment = fault.point.split()[0]
        wrap(run_folder, "mark_complete", **{moment: lambda *_, **__: strike(fault)})
    else:
        break_files(fault, is_due)


def wrap_weights(fault: Fault, is_meant: Callable[[Path], bool]) -> None:
    """Strike when half of a weight file is written."""
    import peft.peft_model
    import safetensors.torch
    import transformers.modeling_utils

    original = safetensors.torch.save_file

    def save_half(tensors: Any, filename: Any, *arguments: Any, **more: Any) -> None:
        if is_meant(Path(filename).parent) and fault.filler:
            strike(fault)  # then the write itself fails
        original(tensors, filename, *arguments, **more)
        if is_meant(Path(filename).parent):
            halve(Path(filename))
            strike(fault)

    safetensors.torch.save_file = save_half
    peft.peft_model.safe_save_file = save_half
    transformers.modeling_utils.safe_save_file = save_half


def break_files(fault: Fault, is_due: Callable[[], bool]) -> None:
    """Strike before or in one of a checkpoint's other files."""
    import torch
    from transformers import TrainerState

    from medtune.training.checkpoints import saving

    def at(point: str, position: int = 0, prefix: str = "") -> Callable[..., None]:
        def before(*arguments: Any, **_: Any) -> None:
            is_file = Path(str(arguments[position])).name.startswith(prefix)
            if fault.point == point and is_due() and is_file:
                strike(fault)

        return before

    def half(point: str, position: int, name: str) -> Callable[..., Any]:
        def after(result: Any, *arguments: Any) -> Any:
            path = Path(str(arguments[position]))
            if fault.point == point and is_due() and path.name == name:
                halve(path)
                strike(fault)
            return result

        return after

    wrap(torch, "save", before=at("before the optimizer", 1, "optimizer.pt"))
    wrap(torch, "save", before=at("before rng", 1, "rng_state"))
    wrap(torch, "save", after=half("in the optimizer", 1, "optimizer.pt"))
    wrap(TrainerState, "save_to_json", after=half("in trainer_state", 1, "trainer_state.json"))
    wrap(saving, "commit", before=at("before the manifest"))
    wrap(os, "replace", before=at("manifest not renamed", 1, "MANIFEST"))
    wrap(saving, "remove_old", before=at("before rotation"))
    wrap(shutil, "rmtree", before=remove_half(fault, is_due))


def remove_half(fault: Fault, is_due: Callable[[], bool]) -> Callable[..., None]:
    """Return what strikes when half of the files of an old checkpoint are removed."""

    def before(folder: Any, *_: Any, **__: Any) -> None:
        if fault.point == "in rotation" and is_due() and str(folder).endswith(".deleting"):
            for file in sorted(Path(folder).iterdir())[::2]:
                file.unlink()
            strike(fault)

    return before


def halve(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def wrap(
    owner: Any,
    name: str,
    before: Callable[..., Any] | None = None,
    after: Callable[..., Any] | None = None,
) -> None:
    """Put a call before or after a function; `after` gets the result first and returns it."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **more: Any) -> Any:
        if before is not None:
            before(*arguments, **more)
        result = original(*arguments, **more)
        return result if after is None else after(result, *arguments)

    setattr(owner, name, wrapped)
