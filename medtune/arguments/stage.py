"""How a stage computes, and all of its options together."""

import json
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from transformers import TrainingArguments

from medtune.arguments.data import BlockArguments, DataArguments
from medtune.arguments.model import FREEZE, FULL, AdapterArguments, ModelArguments
from medtune.common.errors import ConfigError


@dataclass
class SpeedArguments:
    """How batches are laid out and computed; neither changes what is learnt from a row."""

    packed_forward: str = field(
        default="auto",
        metadata={
            "help": "auto: compute no padding and the shared start of a pair once; off: the "
            "trainers' own padded forward, to compare with.",
            "choices": ["auto", "off"],
        },
    )
    tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Fill each training batch of a process with rows up to this many tokens, "
            "instead of per_device_train_batch_size rows; at least one row's length."
        },
    )

    def __post_init__(self) -> None:
        """Refuse a budget that holds nothing."""
        if self.tokens_per_batch is not None and self.tokens_per_batch < 2:
            raise ConfigError(
                f"--tokens_per_batch: expected 2 or more tokens, found {self.tokens_per_batch}."
            )


@dataclass
class RunArguments:
    """How a run is continued, watched and ended; none of this changes what is learnt."""

    resume: str = field(
        default="auto",
        metadata={
            "help": "auto: from the newest checkpoint that is whole; never: refuse a folder that "
            "has any; or a checkpoint folder of this run."
        },
    )
    allow_change: list[str] = field(
        default_factory=list,
        metadata={"help": "Options that may differ from those that the run was begun with."},
    )
    hang_timeout_s: float = field(
        default=1800.0,
        metadata={"help": "End a process that has ended no step for so many seconds; 0: never."},
    )
    max_skipped_steps: int = field(
        default=3,
        metadata={
            "help": "End the run after so many steps in a row without a finite loss and gradient; "
            "a single one is left out and recorded."
        },
    )
    sample_prompts: str | None = field(
        default=None,
        metadata={
            "help": "File of questions that the model answers at each evaluation: rows with "
            "`question` or `messages`, or a text with one question a line."
        },
    )
    sample_max_new_tokens: int = field(
        default=128,
        metadata={"help": "Longest reply at an evaluation, in tokens; the rest is cut."},
    )
    predict_with_generate: bool = field(
        default=False,
        metadata={
            "help": "At each evaluation generate the last replies of validation rows too, and log "
            "ROUGE and BLEU against those of the data."
        },
    )
    num_predict_samples: int = field(
        default=64,
        metadata={"help": "How many validation rows predict_with_generate takes, the first ones."},
    )

    def __post_init__(self) -> None:
        """Refuse limits that end every run."""
        if self.hang_timeout_s < 0:
            raise ConfigError(
                f"--hang_timeout_s: expected 0 or more seconds, found {self.hang_timeout_s:g}."
            )
        for name in ("max_skipped_steps", "sample_max_new_tokens", "num_predict_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name}: expected 1 or more, found {getattr(self, name)}.")


TrainingT = TypeVar("TrainingT", bound=TrainingArguments)


@dataclass
class StageArguments(Generic[TrainingT]):
    """All options of one stage, by group; only pretraining reads `blocks`."""

    model: ModelArguments
    data: DataArguments
    adapter: AdapterArguments
    speed: SpeedArguments
    training: TrainingT
    run: RunArguments = field(default_factory=RunArguments)
    blocks: BlockArguments = field(default_factory=BlockArguments)

    def __post_init__(self) -> None:
        """Refuse clashes between options of different groups."""
        bits, tuner = self.model.quantization_bit, self.adapter.tuner
        init = f"--init_lora_weights {self.adapter.init_lora_weights}"
        if bits and tuner in (FREEZE, FULL):
            raise ConfigError(
                f"--quantization_bit {bits} and --tuner {tuner} clash: {bits}-bit weights are "
                "frozen. Leave one of them out, or train an adapter (--tuner lora, ptuning_v2)."
            )
        if bits == 8 and self.adapter.use_dora:
            raise ConfigError(
                "--quantization_bit 8 and --use_dora clash: bitsandbytes loses the scales of 8-bit "
                "weights while DoRA measures them. Give --quantization_bit 4, or leave one out."
            )
        if bits and self.adapter.is_pissa:
            raise ConfigError(
                f"--quantization_bit {bits} and {init} clash: the adapter takes a part of the "
                f"weights over, and {bits} bits cannot hold the rest exactly. Leave one out."
            )
        if self.adapter.is_pissa and hasattr(self.training, "precompute_ref_log_probs"):
            raise ConfigError(
                f"{init}: expected another stage than preference training, whose reference is the "
                "model without the adapter: PiSSA takes a part of its weights. Leave it out."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return every resolved option as flat, YAML-ready values (secrets left out)."""
        groups = (self.model, self.data, self.adapter, self.speed, self.blocks, self.run)
        flat = {f.name: getattr(g, f.name) for g in groups if g for f in fields(g)}
        training = self.training.to_dict()
        for secret in ("hub_token", "push_to_hub_token"):
            training.pop(secret, None)
        return {**flat, **json.loads(json.dumps(training, default=str))}
