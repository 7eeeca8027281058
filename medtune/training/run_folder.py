"""The folder that a run writes: whose it is, what went in, what came out, and whether it is done.

`lineage.json` is the first file and `COMPLETE` the last. The former holds the inputs (options,
base, data), so a folder of another run is recognised and never continued or overwritten.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from filelock import FileLock, Timeout

from medtune.common.errors import ConfigError
from medtune.common.files import (
    apply_umask,
    read_object,
    write_json,
    write_lines,
    write_text,
)
from medtune.common.lineage import (
    LINEAGE_FILE,
    describe_outputs,
    is_complete,
    mark_complete,
    read_lineage,
    write_lineage,
)
from medtune.data.contamination.report import MATCHES_FILE
from medtune.data.rows import Rows
from medtune.training.checkpoints.exactness import CHANGEABLE

LOCK_FILE = ".run.lock"
DAMAGED = "Nobody knows whose the folder is: name another --output_dir, or remove it."

# Options that change what is shown or where, not what is learnt.
NOT_COMPARED = {
    "output_dir", "logging_steps", "logging_first_step", "disable_tqdm", "report_to", "run_name",
    "log_level", "log_level_replica", "dataloader_num_workers", "dataset_num_proc", "ddp_timeout",
    "save_total_limit", "resume_from_checkpoint", "local_rank", "cache_dir",
    "gradient_checkpointing", "activation_checkpointing", "save_steps", "save_strategy",
    "eval_strategy", "eval_steps", "eval_on_start", "per_device_eval_batch_size",
    "resume", "allow_change", "hang_timeout_s", "max_skipped_steps",
    "sample_prompts", "sample_max_new_tokens", "predict_with_generate", "num_predict_samples",
}  # fmt: skip


@dataclass
class RunFolder:
    """One training run on disk.

    inputs: stage, options, base, tokenizer and data, with hashes: what makes this run this run.
    run_id: of the run that the folder holds, in each of its checkpoints; "" before `open`.
    changes: what was allowed to differ from the start of the run, "name: before -> now"; only what
    differs now before `open`.
    """

    path: Path
    inputs: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""
    changes: list[str] = field(default_factory=list)

    def status(self, allowed: Sequence[str] = ()) -> str:
        """Return "new", "resume" or "complete".

        allowed: names of options that may differ.
        Raises ConfigError if the folder holds something else, naming what differs, and
        CheckpointError if its lineage is damaged.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--output_dir {self.path}: expected a folder, found a file.")
        # What begins with a dot is the lock, or was being written when the process was killed.
        if not self.path.exists() or all(p.name.startswith(".") for p in self.path.iterdir()):
            return "new"
        if not (self.path / LINEAGE_FILE).exists():
            raise ConfigError(
                f"--output_dir {self.path}: expected an empty folder or an earlier run of this "
                "command, found other files; name another folder."
            )
        before = read_object(self.path / LINEAGE_FILE, DAMAGED)
        self.run_id = before.get("run_id", "")
        differences = find_differences(before.get("inputs", {}), self.inputs)
        self.changes = [line for line in differences if name_of(line) in allowed]
        if refused := [line for line in differences if line not in self.changes]:
            shown = "\n  ".join(refused[:10])
            raise ConfigError(
                f"--output_dir {self.path}: expected an empty folder or an earlier run of this "
                f"command, found another run. It differs in (there -> now):\n  {shown}\n"
                f"{way_out(refused, self.path)}"
            )
        return "complete" if is_complete(self.path) else "resume"

    def open(self, rows: Rows) -> None:
        """Write what is known before training: lineage (inputs), options, ledger, rejects."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.run_id = self.run_id or uuid4().hex
        self._write_lineage({})
        text = yaml.safe_dump(self.arguments, allow_unicode=True, sort_keys=True)
        write_text(self.path / "arguments.yaml", text)
        write_json(self.path / "ledger.json", {**rows.ledger, "balanced": True})
        write_lines(self.path / "rejects.jsonl", [reject.to_dict() for reject in rows.rejects])
        if rows.matches is not None:
            write_lines(self.path / MATCHES_FILE, rows.matches)

    def close(self, **facts: Any) -> None:
        """Record the hashes of what was made, make it readable, and write COMPLETE last."""
        # A pickle, which nobody should have to open, and a model card with nothing filled in.
        for name in ("training_args.bin", "README.md"):
            (self.path / name).unlink(missing_ok=True)
        apply_umask(self.path)
        self._write_lineage(describe_outputs(self.path))
        mark_complete(self.path, stage=self.inputs["stage"], **facts)

    def lock(self) -> FileLock:
        """Return the lock of the folder, taken; a process that is killed gives it back.

        Raises ConfigError if another process has it: two would rotate each other's checkpoints.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK_FILE, blocking=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"--output_dir {self.path}: expected nobody at work there, found another process "
                "that writes it; wait for its end, or name another folder."
            ) from error
        return lock

    def _write_lineage(self, outputs: dict[str, str]) -> None:
        before = (read_lineage(self.path) or {}).get("changes", [])
        self.changes = before + [line for line in self.changes if line not in before]
        write_lineage(
            self.path / LINEAGE_FILE,
            self.inputs,
            outputs,
            run_id=self.run_id,
            changes=self.changes,
        )


def describe_inputs(
    stage: str,
    arguments: dict[str, Any],
    base: dict[str, Any],
    tokenizer: dict[str, Any],
    data: dict[str, str],
) -> dict[str, Any]:
    """Return what makes a run this run, as its folder remembers it."""
    compared = {name: value for name, value in arguments.items() if name not in NOT_COMPARED}
    compared["num_processes"] = int(os.environ.get("WORLD_SIZE", "1"))
    return {
        "stage": stage,
        "options": compared,
        "base": base,
        "tokenizer": tokenizer,
        "data": data,
    }


def name_of(difference: str) -> str:
    """Return the option that a line of find_differences is about. Example: learning_rate"""
    return difference.partition(":")[0].removeprefix("options.")


def way_out(differences: list[str], path: Path) -> str:
    """Return what a user can do who wants to go on with these differences."""
    names = [name_of(line) for line in differences]
    words = []
    if changeable := [name for name in names if name in CHANGEABLE]:
        words.append(f"To go on with them: --allow_change {' '.join(changeable)}.")
    if "num_processes" in names:
        words.append(
            "With another number of processes each step has other rows: start as many as before, "
            f"or begin a new run with --peft_path {path}/checkpoint-STEP."
        )
    words.append("Name another --output_dir, or remove that folder.")
    return " ".join(words)


def find_differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Return "name: before -> now" for every leaf of two nested dicts that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        if before.get("stage") != now.get("stage"):  # then the rest differs as a matter of course
            return [f"stage: {before.get('stage')} -> {now.get('stage')}"]
        names = sorted((before.keys() | now.keys()) - {"path", "parent"})  # what, not where from
        return [
            line
            for key in names
            for line in find_differences(before.get(key), now.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if before == now else [f"{name}: {before} -> {now}"]
