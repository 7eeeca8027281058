"""Which model is trained, and which part of it."""

from dataclasses import dataclass, field

from medtune.common.errors import ConfigError

CHATGLM = "chatglm"
AUTO = "auto"  # found by the program: a format, or how many layers the memory has recomputed


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


def split_names(words: list[str]) -> list[str]:
    """Return the names in words that may be comma lists: ["a,b", "c"] -> ["a", "b", "c"]."""
    return [name.strip() for word in words for name in word.split(",")]
