"""Which checkpoint a run goes on from, and which ones it keeps."""

import shutil
from pathlib import Path

from medtune.common.errors import CheckpointError
from medtune.common.log import logger
from medtune.training.checkpoints.manifest import find_damage, read_manifest

BAD, DELETING = ".bad", ".deleting"


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the checkpoint folders of a run, the newest first; those set aside are not among them.

    Example: checkpoint-20, checkpoint-10
    """
    found = [p for p in folder.glob("checkpoint-*") if p.name.split("-")[1].isdigit()]
    return sorted((path for path in found if path.is_dir()), key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint was written after."""
    return int(checkpoint.name.split("-")[1])


def newest_committed(folder: Path, run_id: str) -> Path | None:
    """Return the newest checkpoint of this run whose files are as they were committed.

    Newer ones that are not are renamed to end in `.bad` and kept.
    """
    for checkpoint in checkpoints_of(folder):
        damage = find_damage(checkpoint) or find_foreign(checkpoint, run_id)
        if damage is None:
            return checkpoint
        set_aside(checkpoint, damage)
    return None


def find_foreign(checkpoint: Path, run_id: str) -> str | None:
    """Return a sentence if a checkpoint was written by another run."""
    manifest = read_manifest(checkpoint) or {}
    if manifest.get("run_id") == run_id:
        return None
    return f"it belongs to another run ({manifest.get('run_id')})"


def set_aside(checkpoint: Path, reason: str) -> None:
    """Rename a checkpoint that cannot be used, and say why."""
    target, number = checkpoint.with_name(checkpoint.name + BAD), 2
    while target.exists():
        target = checkpoint.with_name(f"{checkpoint.name}{BAD}{number}")
        number += 1
    checkpoint.rename(target)
    logger.warning("%s is set aside as %s: %s", checkpoint, target.name, reason)


def chosen_by_user(name: str, folder: Path, run_id: str) -> Path:
    """Return the checkpoint of a run's folder that --resume names; newer ones are set aside.

    Raises CheckpointError if it cannot be used.
    """
    checkpoint = Path(name)
    own = {path.resolve(): path for path in checkpoints_of(folder)}
    if checkpoint.resolve() not in own:
        raise CheckpointError(
            f"--resume {name}: expected auto, never or a checkpoint of {folder}, found none there; "
            f"it has {', '.join(path.name for path in own.values()) or 'no checkpoint'}."
        )
    checkpoint = own[checkpoint.resolve()]
    damage = find_damage(checkpoint) or find_foreign(checkpoint, run_id)
    if damage:
        raise CheckpointError(
            f"--resume {name}: expected a committed checkpoint of this run, found that {damage}. "
            "Leave --resume out to go on from the newest one that is whole."
        )
    for newer in checkpoints_of(checkpoint.parent):
        if step_of(newer) > step_of(checkpoint):  # another course may lead to other weights there
            set_aside(newer, f"--resume goes on from {checkpoint.name}")
    return checkpoint


def remove_old(folder: Path, num_kept: int | None) -> None:
    """Remove all but the newest `num_kept` committed checkpoints; None keeps all of them.

    The last committed one stays, whatever the number; those that are not whole are not touched:
    the next start sets them aside.
    """
    for path in folder.glob(f"checkpoint-*{DELETING}"):  # of a run that was killed meanwhile
        shutil.rmtree(path)
    if num_kept is None:
        return
    committed = [path for path in checkpoints_of(folder) if read_manifest(path) is not None]
    for path in committed[max(num_kept, 1) :]:
        going = path.with_name(path.name + DELETING)  # so that no half of it is ever resumed from
        path.rename(going)
        shutil.rmtree(going)
