"""One adapter a system: from the same model and the same rows of ids to a trainer.

`ours` is medtune as its scripts build it. `trl` is the stock trainer at its own defaults, except
for what "the same work" fixes for both: float32, no gradient checkpointing, AdamW at a constant
rate, LoRA of rank 8 on every linear layer without dropout, and rows in the order given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from bench.cases import Case
from bench.flops import Row
from bench.models import build_model
from medtune.data.rows import Rows
from medtune.models.adapters import TrainableModel
from medtune.models.tuners import lora_config
from medtune.parsing import parse_arguments
from medtune.training.packed.install import make_fast
from medtune.training.trainers import build_language_model_trainer, build_preference_trainer

LORA_RANK, LORA_ALPHA = 8, 16
LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class Job:
    """A case's rows for one system, with the folder of the tokenizer and one to write to."""

    case: Case
    rows: list[Row]
    tokenizer: Path
    output: Path


def shared_options(job: Job) -> dict[str, Any]:
    """Return the options that both sides get."""
    return {
        "output_dir": str(job.output),
        "per_device_train_batch_size": job.case.batch_size,
        "num_train_epochs": job.case.num_epochs,
        "max_length": job.case.max_length_tokens,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 10,
        "disable_tqdm": True,
    }


# -- ours


def build_ours(job: Job, **changes: Any) -> Any:
    """Return medtune's trainer, built as its stage scripts build it."""
    options = {
        "model_name_or_path": "unused",  # the model and the rows are passed in
        "train_file_dir": "unused",
        "eval_on_start": False,
        "lora_rank": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0,
        **shared_options(job),
        **changes,
    }
    argv = [f"--{name}={value}" for name, value in options.items()]
    train = Dataset.from_list(job.rows)
    rows = Rows(train, train.select([0]), ledger={}, rejects=[], turn_ends=[])  # no evaluation
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    if job.case.kind == "dpo":
        for_pairs = parse_arguments(argv, DPOConfig)
        model = TrainableModel(build_model(job.case.model), lora_config(for_pairs.adapter))
        return build_preference_trainer(for_pairs, model, rows, tokenizer)
    arguments = parse_arguments(argv, SFTConfig)
    model = TrainableModel(build_model(job.case.model), lora_config(arguments.adapter))
    return build_language_model_trainer(arguments, model, rows, tokenizer)


def build_ours_unshared(job: Job) -> Any:
    """Return medtune's trainer without padding, but with the prompt of a pair computed twice."""
    trainer = build_ours(job, packed_forward="off")
    make_fast(trainer, share_prefix=False)
    return trainer


# -- TRL


class ReadyPairs(DPOTrainer):
    """The stock trainer, whose preparation wants text, on pairs that are ids already."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def build_trl(job: Job, **changes: Any) -> Any:
    """Return the stock trainer; `changes` are options of its configuration."""
    options = {**shared_options(job), **changes}
    kind, config = (ReadyPairs, DPOConfig) if job.case.kind == "dpo" else (SFTTrainer, SFTConfig)
    return kind(
        model=build_model(job.case.model),
        args=config(**options),
        train_dataset=Dataset.from_list(job.rows),
        processing_class=AutoTokenizer.from_pretrained(job.tokenizer),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0,
            target_modules="all-linear",
        ),
    )  # fmt: skip


def build_trl_bfd_same_tokens(job: Job) -> Any:
    """Return the stock trainer with bin packing and about as many tokens a step as the others.

    With packing, TRL's batch size counts packs of max_length tokens, not rows.
    """
    case = job.case
    tokens = sum(len(row["input_ids"]) for row in job.rows)
    per_step = tokens * case.batch_size / len(job.rows)
    num_packs = max(1, round(per_step / case.max_length_tokens))
    return build_trl(job, **BFD, per_device_train_batch_size=num_packs)


BFD: dict[str, Any] = {"packing": True, "packing_strategy": "bfd"}
SYSTEMS: dict[str, Callable[[Job], Any]] = {
    "ours": build_ours,
    "ours_padded": partial(build_ours, packed_forward="off"),
    "ours_precompute": partial(build_ours, precompute_ref_log_probs=True),
    "ours_unshared": build_ours_unshared,
    "trl": build_trl,
    "trl_bfd": partial(build_trl, **BFD),
    "trl_bfd_same_tokens": build_trl_bfd_same_tokens,
    "trl_padding_free": partial(build_trl, padding_free=True, max_length=None),
    "trl_precompute": partial(build_trl, precompute_ref_log_probs=True),
}
# Its optimizer steps hold other rows than the baseline's: losses do not compare step by step.
OTHER_BATCHES = ("trl_bfd", "trl_bfd_same_tokens")
