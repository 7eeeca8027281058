"""How a stage computes, and all of its options together."""

import json
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from transformers import TrainingArguments

from medtune.arguments.data import BlockArguments, DataArguments
from medtune.arguments.model import AdapterArguments, ModelArguments
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


TrainingT = TypeVar("TrainingT", bound=TrainingArguments)


@dataclass
class StageArguments(Generic[TrainingT]):
    """All options of one stage, by group; only pretraining reads `blocks`."""

    model: ModelArguments
    data: DataArguments
    adapter: AdapterArguments
    speed: SpeedArguments
    training: TrainingT
    blocks: BlockArguments = field(default_factory=BlockArguments)

    def to_dict(self) -> dict[str, Any]:
        """Return every resolved option as flat, YAML-ready values (secrets left out)."""
        groups = (self.model, self.data, self.adapter, self.speed, self.blocks)
        flat = {f.name: getattr(g, f.name) for g in groups if g for f in fields(g)}
        training = self.training.to_dict()
        for secret in ("hub_token", "push_to_hub_token"):
            training.pop(secret, None)
        return {**flat, **json.loads(json.dumps(training, default=str))}
