"""Options of the three stages and of the merge: what the trainers' own configs lack.

Learning rate, batch size, epochs, deepspeed, max_length, beta and the like belong to TRL's
SFTConfig and DPOConfig and are not declared here. `medtune.parsing` reads them all.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from transformers import TrainingArguments

from medtune.common.errors import ConfigError

CHATGLM = "chatglm"
AUTO = "auto"  # found by the program: a format, or how many layers the memory has recomputed
DOC_SEPARATORS = ["file", "blank_line", "line"]


@dataclass
class ModelArguments:
    """Which model and tokenizer to start from."""

    model_name_or_path: str = field(
        metadata={"help": "Folder or hub name of the model to train; 'tiny-glm' is the built-in."}
    )
    tokenizer_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Folder or hub name; default: the model's."},
    )
    model_type: str = field(
        default="auto",
        metadata={"help": "Family the model must belong to: auto (do not check), glm, chatglm, …"},
    )
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Type of the frozen weights: auto (bfloat16 on a GPU, float32 on a CPU), "
            "bfloat16 or float32. Trained weights are float32 unless DeepSpeed says otherwise.",
            "aliases": ["--torch_dtype"],
            "choices": ["auto", "bfloat16", "float32"],
        },
    )
    revision: str = field(
        default="main",
        metadata={"help": "Hub branch, tag or commit.", "aliases": ["--hub_model_revision"]},
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "Where hub downloads are kept; default: the hub's own."}
    )


@dataclass(kw_only=True)
class FormatArguments:
    """What the user says of the files instead of having it found."""

    data_format: str = field(
        default=AUTO,
        metadata={
            "help": "Format of the conversations: auto (found from the fields of each row) or a "
            "name of docs/data_formats.md."
        },
    )
    encoding: str = field(
        default=AUTO,
        metadata={"help": "Encoding of the files: auto (found from the bytes), utf-8, gb18030, …"},
    )
    prompt_column: str | None = field(
        default=None, metadata={"help": "Field with the question, where it has its own name."}
    )
    response_column: str | None = field(
        default=None, metadata={"help": "Field with the answer, where it has its own name."}
    )
    history_column: str | None = field(
        default=None,
        metadata={"help": "Field with the turns before: [[question, answer], …]."},
    )


@dataclass
class DataArguments(FormatArguments):
    """Which files to read and how to split them."""

    train_file_dir: str = field(
        metadata={"help": "Folder (searched to any depth) or file with the training data."}
    )
    validation_file_dir: str | None = field(
        default=None,
        metadata={"help": "Folder or file with the validation data; default: a seeded split."},
    )
    validation_split_percentage: float = field(
        default=5.0,
        metadata={
            "help": "Percent of the rows (0 to 50) that become validation, chosen by a seeded hash "
            "of the question or text. Ignored when validation_file_dir is given."
        },
    )
    max_rejected_percentage: float = field(
        default=1.0,
        metadata={
            "help": "Percent of the rows (0 to 100) that may break a rule (an empty turn, …) and "
            "be left out: counted by reason and written to rejects.jsonl. With more of them "
            "the run stops. A row that is no record at all (not JSON, a field missing) always does."
        },
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Use at most this many training rows, chosen by the seed."}
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata={"help": "Use at most this many validation rows, by the seed."},
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot mean anything."""
        if not 0 < self.validation_split_percentage <= 50:
            raise ConfigError(
                "--validation_split_percentage: expected a percentage above 0 and up to 50, found "
                f"{self.validation_split_percentage}; 5 keeps one row in twenty for validation."
            )
        if not 0 <= self.max_rejected_percentage <= 100:
            raise ConfigError(
                "--max_rejected_percentage: expected a percentage from 0 to 100, found "
                f"{self.max_rejected_percentage}."
            )
        for name in ("max_train_samples", "max_eval_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name}: expected 1 or more, found {value}.")
        if self.validation_file_dir and same_path(self.validation_file_dir, self.train_file_dir):
            raise ConfigError(
                f"--validation_file_dir: expected other data than --train_file_dir, found the same "
                f"({self.train_file_dir}): a loss on training data measures nothing. Leave "
                "--validation_file_dir out to have a part split off."
            )


@dataclass
class BlockArguments:
    """How pretraining cuts text into documents and blocks."""

    block_size: int = field(
        default=1024, metadata={"help": "Tokens in a block; documents longer than it continue."}
    )
    doc_separator: str = field(
        default="blank_line",
        metadata={
            "help": "What one document is: a whole file, a block between blank lines, or a line.",
            "choices": DOC_SEPARATORS,
        },
    )

    def __post_init__(self) -> None:
        """Refuse a block too short to predict anything."""
        if self.block_size < 2:
            raise ConfigError(f"--block_size: expected 2 or more tokens, found {self.block_size}.")


@dataclass
class AdapterArguments:
    """LoRA, on by default; without it all weights are trained."""

    use_peft: bool = field(
        default=True, metadata={"help": "Train a LoRA adapter; False trains all weights."}
    )
    peft_path: str | None = field(
        default=None,
        metadata={"help": "Adapter folder to continue from; its own rank and targets are kept."},
    )
    target_modules: list[str] = field(
        default_factory=lambda: ["all"],
        metadata={"help": "Layers that get LoRA: all (every linear layer but the head) or names."},
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Layers trained in full and saved with the adapter."}
    )
    lora_rank: int = field(default=8, metadata={"help": "Rank r; memory grows with it."})
    lora_alpha: float = field(
        default=16.0, metadata={"help": "Scale: the update is weighted by lora_alpha / lora_rank."}
    )
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the adapter, 0-1."})

    def __post_init__(self) -> None:
        """Read comma lists (the older scripts write them) and refuse clashes."""
        self.target_modules = split_names(self.target_modules)
        if self.modules_to_save:
            self.modules_to_save = split_names(self.modules_to_save)
        if self.peft_path and not self.use_peft:
            raise ConfigError(
                "--peft_path and --use_peft False clash: an adapter cannot be continued without "
                "PEFT. Leave one of them out."
            )
        if self.lora_rank < 1:
            raise ConfigError(f"--lora_rank: expected 1 or more, found {self.lora_rank}.")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"--lora_dropout: expected 0 to below 1, found {self.lora_dropout}.")


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
class MergeArguments:
    """What merge_peft_adapter.py takes; the second names are those of older scripts."""

    base_model: str = field(
        metadata={
            "help": "Folder or hub name of the model that the adapter was trained on.",
            "aliases": ["--base_model_name_or_path"],
        }
    )
    lora_model: list[str] = field(
        metadata={
            "help": "Adapter folder; several are merged in this order.",
            "aliases": ["--peft_model_path"],
        }
    )
    output_dir: str = field(metadata={"help": "Folder for the merged model; must be new or empty."})
    tokenizer_path: str | None = field(
        default=None, metadata={"help": "Tokenizer; default: the adapter's, else the base's."}
    )
    model_type: str = field(
        default="auto", metadata={"help": "Family the base must belong to: auto, glm, chatglm, …"}
    )
    resize_emb: bool = field(
        default=False,
        metadata={"help": "Add embedding rows if the tokenizer has more tokens; none is removed."},
    )
    ignore_lineage: bool = field(
        default=False,
        metadata={"help": "Accept a base with other files than the adapter was trained on."},
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


def same_path(one: str, other: str) -> bool:
    """True if both names lead to the same file or folder."""
    return Path(one).resolve() == Path(other).resolve()


def split_names(words: list[str]) -> list[str]:
    """Return the names in words that may be comma lists: ["a,b", "c"] -> ["a", "b", "c"]."""
    return [name.strip() for word in words for name in word.split(",")]
