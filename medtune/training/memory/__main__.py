"""Predict the peak memory of each process for any configuration, without a model or a GPU.

GLM-4-9B, LoRA on two A40, a whole copy on each:
    python -m medtune.training.memory --config configs/glm4-9b/sft.yaml --gpu_memory_gb 48 \
        --num_processes 2
In 4 bits on 24 GB:
    python -m medtune.training.memory --config configs/glm4-9b/sft.yaml --gpu_memory_gb 24 \
        --quantization_bit 4
All weights on eight 80 GB cards:
    python -m medtune.training.memory --config configs/glm4-9b/sft.yaml --gpu_memory_gb 80 \
        --num_processes 8 --use_peft False --deepspeed configs/deepspeed/zero3.json

Any option of the stage may follow. What is counted: docs/memory.md.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from transformers import AutoConfig, GlmConfig, PretrainedConfig

from medtune.arguments import (
    AUTO,
    AdapterArguments,
    BlockArguments,
    DataArguments,
    ModelArguments,
    RunArguments,
    SpeedArguments,
    StageArguments,
)
from medtune.arguments.training import DPOConfig, SFTConfig
from medtune.common.errors import ConfigError, run_script
from medtune.models.families import GLM, check_model_type
from medtune.models.loading import DTYPES, resolve_model
from medtune.models.shapes import shape_of
from medtune.models.tiny import TINY_GLM
from medtune.models.tuners import new_adapter_config
from medtune.parsing import DEFAULTS, check_precision, parse_into
from medtune.training.memory.estimate import GIB, MemoryEstimate, estimate_memory
from medtune.training.memory.recompute import (
    NO_ROOM,
    describe_plan,
    has_room,
    plan_recompute,
)
from medtune.training.memory.workload import Machine, build_workload

STAGES = ("pt", "sft", "dpo")
GB = 10**9
# As on a GPU, wherever this runs.
PREDICTED = {**DEFAULTS, "gradient_checkpointing": AUTO, "bf16": True, "use_cpu": True}


@dataclass
class MemoryArguments:
    """What the prediction needs beside the options of a stage."""

    stage: str | None = field(
        default=None,
        metadata={
            "help": "Which stage the options are of; default: the name of the --config file.",
            "choices": list(STAGES),
        },
    )
    model_config: str | None = field(
        default=None,
        metadata={
            "help": "config.json of the model, or its folder; default: the model's own, and "
            "GLM-4-9B's where there is none yet and --model_type is glm."
        },
    )
    gpu_memory_gb: float | None = field(
        default=None,
        metadata={"help": "Memory of one GPU in GB (1e9 bytes); default: this machine's GPU."},
    )
    num_processes: int = field(default=1, metadata={"help": "GPUs, one process on each."})

    def __post_init__(self) -> None:
        """Refuse sizes that no machine has."""
        if self.gpu_memory_gb is not None and self.gpu_memory_gb <= 0:
            raise ConfigError(
                f"--gpu_memory_gb: expected more than 0 GB, found {self.gpu_memory_gb:g}."
            )
        if self.num_processes < 1:
            raise ConfigError(f"--num_processes: expected 1 or more, found {self.num_processes}.")


def main(argv: list[str]) -> None:
    """Print the table and the plan."""
    stage = find_stage(argv)
    arguments, options = parse_options(argv, stage)
    shape = shape_of(find_config(arguments, options.model))
    adapter = find_adapter(options.adapter)
    machine = Machine(
        weight_size=DTYPES.get(options.model.dtype, torch.bfloat16).itemsize,
        num_processes=arguments.num_processes,
        weight_bits=options.model.quantization_bit or 16,
    )
    work = build_workload(options, shape, adapter, find_length(options, stage), machine)
    memory = find_memory(arguments)
    plans = {num: estimate_memory(work, num) for num in (0, shape.num_layers)}
    lines = [f"{work.tokens:,} tokens in a micro-batch, {work.num_trained:,} weights trained", ""]
    if memory is None:
        lines += [table(plans), "", "--gpu_memory_gb says for how much memory to plan"]
    else:
        plan = plan_recompute(work, memory)
        plans[plan.num_recomputed] = plan
        lines += [table(plans), "", describe_plan(plan, memory)]
        lines += [] if has_room(plan, memory) else [NO_ROOM]
    print("\n".join(lines))


def table(by_num_recomputed: dict[int, MemoryEstimate]) -> str:
    """Return the parts of each estimate as a table, GiB for one process."""
    estimates = [by_num_recomputed[num] for num in sorted(by_num_recomputed)]
    heads = [f"{one.num_recomputed} of {one.num_layers}" for one in estimates]
    rows = [("layers recomputed", *heads)]
    for name in estimates[0].parts():
        rows.append((name, *(f"{one.parts()[name] / GIB:.1f}" for one in estimates)))
    rows.append(("GiB for each process", *(f"{one.peak / GIB:.1f}" for one in estimates)))
    return "\n".join(f"{name:<22}" + "".join(f"{cell:>10}" for cell in row) for name, *row in rows)


def find_stage(argv: list[str]) -> str:
    """Return the stage that the options are of. Raises ConfigError if nothing says it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--stage", "--config"):
        parser.add_argument(name, nargs="?")
    words, _ = parser.parse_known_args(argv)
    stage = words.stage or Path(words.config or "").stem
    if stage not in STAGES and not {"-h", "--help"} & set(argv):
        raise ConfigError(f"--stage: expected pt, sft or dpo, found {stage or 'none'}.")
    return stage


def parse_options(argv: list[str], stage: str) -> tuple[MemoryArguments, StageArguments[Any]]:
    """Return our own options and those of the stage. Raises ConfigError as the stages do."""
    groups: list[type] = [
        MemoryArguments, ModelArguments, DataArguments, AdapterArguments, SpeedArguments,
        RunArguments, DPOConfig if stage == "dpo" else SFTConfig,
    ]  # fmt: skip
    arguments, model, data, adapter, speed, run, training, *blocks = parse_into(
        argv, groups + [BlockArguments] * (stage == "pt"), PREDICTED
    )
    check_precision(training)
    return arguments, StageArguments(model, data, adapter, speed, training, run, *blocks)


def find_config(arguments: MemoryArguments, model: ModelArguments) -> PretrainedConfig:
    """Return the model's configuration, from a file or GLM-4-9B's own.

    Raises ConfigError if there is none, or one of another family.
    """
    name = arguments.model_config
    if name is None and model.model_name_or_path == TINY_GLM:
        name = resolve_model(TINY_GLM)
    if name is None and (Path(model.model_name_or_path) / "config.json").is_file():
        name = model.model_name_or_path
    if name is None and model.model_type in (GLM.name, *GLM.aliases):
        return GlmConfig()  # the defaults of the class are the 9B model's
    if name is None or not Path(name).exists():
        raise ConfigError(
            f"--model_config: expected a config.json or its folder, found "
            f"{name or 'none in ' + model.model_name_or_path}."
        )
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"--model_config {name}: expected a config.json that transformers can read: {error}"
        ) from error
    check_model_type(model.model_type, config.model_type)
    return config


def find_adapter(adapter: AdapterArguments) -> PeftConfig | None:
    """Return the adapter to train. Raises ConfigError if --peft_path holds none."""
    if not adapter.peft_path:
        return new_adapter_config(adapter)
    if not (Path(adapter.peft_path) / "adapter_config.json").is_file():
        raise ConfigError(f"--peft_path {adapter.peft_path}: expected adapter_config.json there.")
    return PeftConfig.from_pretrained(adapter.peft_path)


def find_length(options: StageArguments[Any], stage: str) -> int:
    """Return the tokens of the longest row that the options allow."""
    length = options.blocks.block_size if stage == "pt" else options.training.max_length
    if length is None or length < 1:
        raise ConfigError(f"--max_length: expected the tokens of the longest row, found {length}.")
    return length


def find_memory(arguments: MemoryArguments) -> int | None:
    """Return the bytes of one GPU, None if nothing says how many."""
    if arguments.gpu_memory_gb is not None:
        return round(arguments.gpu_memory_gb * GB)
    return torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None


if __name__ == "__main__":
    run_script(main)
