"""Adapters to whole programs that a user may have installed: MedicalGPT and LLaMA-Factory.

Each gets the model folder and the same conversations as text. It tokenises them by its own template
and batches them in its own order, so this is like work, not the same: there is no gate, and a
result says so. Nothing is downloaded; without the program the case is "not installed".
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.cases import Case
from bench.systems import LEARNING_RATE, LORA_ALPHA, LORA_RANK
from medtune.data.records import Conversation

SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
NOT_THE_SAME = "its own template, its own order of rows; no gate"


class NotInstalled(Exception):
    """A system that this machine does not have, or that cannot run this case; the text says why."""


@dataclass(frozen=True)
class Programs:
    """Where the user has them: MedicalGPT's checkout, LLaMA-Factory's executable."""

    medicalgpt: Path | None = None
    llamafactory: str | None = None


def write_conversations(conversations: list[Conversation], folder: Path) -> None:
    """Write them as both programs read them: sharegpt rows, and LLaMA-Factory's register."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for conversation in conversations:
        turns = [{"from": SPEAKERS[m.role], "value": m.content} for m in conversation.messages]
        lines.append(json.dumps({"conversations": turns}, ensure_ascii=False))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # MedicalGPT holds rows of the training data back unless it is given others.
    held_out = validation_of(folder)
    held_out.mkdir(exist_ok=True)
    (held_out / "validation.jsonl").write_text(lines[0] + "\n", encoding="utf-8")
    register = {"bench": {"file_name": "train.jsonl", "formatting": "sharegpt"}}
    (folder / "dataset_info.json").write_text(json.dumps(register), encoding="utf-8")


def validation_of(data: Path) -> Path:
    """Return the folder of validation rows that belongs to the folder `data`."""
    return data.with_name(f"{data.name}_validation")


def medicalgpt_command(
    case: Case, programs: Programs, model: Path, data: Path, out: Path
) -> list[str]:
    """Return the command that runs MedicalGPT's fine-tuning script. Raises NotInstalled."""
    if programs.medicalgpt is None:
        raise NotInstalled("name its checkout with --medicalgpt PATH")
    script = programs.medicalgpt / "supervised_finetuning.py"
    if not script.is_file():
        script = programs.medicalgpt / "training" / "supervised_finetuning.py"
    if not script.is_file():
        raise NotInstalled(f"no supervised_finetuning.py in {programs.medicalgpt}")
    options: dict[str, Any] = {
        "model_name_or_path": model,
        "train_file_dir": data,
        "validation_file_dir": validation_of(data),
        "output_dir": out,
        "do_train": True,
        "use_peft": True,
        "target_modules": "all",
        "lora_rank": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.0,
        "template_name": "vicuna",
        "model_max_length": case.max_length_tokens,
        "per_device_train_batch_size": case.batch_size,
        "num_train_epochs": case.num_epochs,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "torch_dtype": "float32",
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
    }
    return [
        sys.executable,
        str(script),
        *(w for k, v in options.items() for w in (f"--{k}", f"{v}")),
    ]


def llamafactory_command(
    case: Case, programs: Programs, model: Path, data: Path, out: Path
) -> list[str]:
    """Write the YAML and return the command for LLaMA-Factory. Raises NotInstalled."""
    executable = programs.llamafactory and shutil.which(programs.llamafactory)
    if not executable:
        raise NotInstalled("name its executable with --llamafactory llamafactory-cli")
    options = {
        "model_name_or_path": str(model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.0,
        "dataset": "bench",
        "dataset_dir": str(data),
        "template": "glm4",
        "cutoff_len": case.max_length_tokens,
        "output_dir": str(out),
        "per_device_train_batch_size": case.batch_size,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": case.num_epochs,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "bf16": False,
        "fp16": False,
        "disable_gradient_checkpointing": True,
        "use_cpu": True,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
    }
    config = out.parent / "llamafactory.yaml"
    config.write_text(yaml.safe_dump(options), encoding="utf-8")
    return [executable, "train", str(config)]


COMMANDS = {"medicalgpt": medicalgpt_command, "llamafactory": llamafactory_command}


def run_external(command: list[str], out: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a program to its end and return its own training time and its peak of memory.

    Raises RuntimeError with the end of what it wrote if it fails or leaves no training time.
    """
    shutil.rmtree(out, ignore_errors=True)  # of the run before: LLaMA-Factory refuses a folder
    log = out.parent / "log.txt"
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    results = out / "train_results.json"
    if status or not results.is_file():
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{tail(log)}")
    measured = json.loads(results.read_text(encoding="utf-8"))
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "build_seconds": 0.0,
        "train_seconds": measured["train_runtime"],
        "memory_peak_mb": usage.ru_maxrss * scale / 1e6,
    }


def tail(log: Path, num_lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:])
