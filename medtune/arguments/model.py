"""Which model is trained, and which part of it."""

from dataclasses import dataclass, field

from medtune.common.errors import ConfigError

CHATGLM = "chatglm"
AUTO = "auto"  # found by the program: a format, or how many layers the memory has recomputed
LORA, PTUNING_V2, FREEZE, FULL = "lora", "ptuning_v2", "freeze", "full"
DEFAULT_INIT, PISSA = "default", "pissa"
DEFAULT_PREFIX_TOKENS, DEFAULT_TRAINED_LAYERS = 128, 2


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
            "help": "Type of the model's weights: auto (bfloat16 on a GPU, float32 on a CPU), "
            "bfloat16 or float32. Adapters are float32 unless DeepSpeed says otherwise.",
            "aliases": ["--torch_dtype"],
            "choices": ["auto", "bfloat16", "float32"],
        },
    )
    quantization_bit: int | None = field(
        default=None,
        metadata={
            "help": "Load the linear layers' weights in 4 bits (NF4) or 8 (LLM.int8) by "
            "bitsandbytes; they are frozen. Head and embeddings keep --dtype.",
            "choices": [4, 8],
        },
    )
    revision: str = field(
        default="main",
        metadata={"help": "Hub branch, tag or commit.", "aliases": ["--hub_model_revision"]},
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "Where hub downloads are kept; default: the hub's own."}
    )


# Which tuner an option belongs to. LoRA's sizes are not named: every configuration carries them.
OWNERS = {
    "use_dora": LORA,
    "use_rslora": LORA,
    "init_lora_weights": LORA,
    "loraplus_lr_ratio": LORA,
    "modules_to_save": LORA,
    "pre_seq_len": PTUNING_V2,
    "prefix_projection": PTUNING_V2,
    "num_trainable_layers": FREEZE,
}
OF_NEW_LORA = ("use_dora", "use_rslora", "init_lora_weights")


@dataclass
class AdapterArguments:
    """What is trained: an adapter (LoRA by default), a prefix, the last layers, or all weights."""

    tuner: str | None = field(
        default=None,
        metadata={
            "help": "lora (default); ptuning_v2: keys and values before each row; freeze: some "
            "layers of the model; full: all of its weights.",
            "choices": [LORA, PTUNING_V2, FREEZE, FULL],
        },
    )
    use_peft: bool = field(
        default=True, metadata={"help": "False: the older name of --tuner full."}
    )
    peft_path: str | None = field(
        default=None,
        metadata={"help": "Adapter folder to continue from; its own sizes and targets are kept."},
    )
    target_modules: list[str] = field(
        default_factory=lambda: ["all"],
        metadata={"help": "Layers that get LoRA: all (every linear layer but the head) or names."},
    )
    add_tokens: str | None = field(
        default=None,
        metadata={
            "help": "File of domain words that become a token each: one a line, or a JSON list."
        },
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Layers trained in full and saved with the adapter."}
    )
    lora_rank: int = field(default=8, metadata={"help": "Rank r; memory grows with it."})
    lora_alpha: float = field(
        default=16.0,
        metadata={
            "help": "Scale: the update is weighted by lora_alpha / lora_rank, with --use_rslora "
            "by lora_alpha / sqrt(lora_rank)."
        },
    )
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the adapter, 0-1."})
    use_dora: bool = field(
        default=False, metadata={"help": "DoRA: train direction and length of the weights apart."}
    )
    use_rslora: bool = field(
        default=False, metadata={"help": "rsLoRA: scale by the root of the rank, for large ranks."}
    )
    init_lora_weights: str = field(
        default=DEFAULT_INIT,
        metadata={
            "help": "default: an adapter that changes nothing yet; pissa: one of the weights' "
            "largest singular values; pissa_niter_16: the same by a fast approximation.",
            "choices": [DEFAULT_INIT, PISSA, f"{PISSA}_niter_16"],
        },
    )
    loraplus_lr_ratio: float | None = field(
        default=None,
        metadata={"help": "LoRA+: how many times --learning_rate LoRA's B gets, such as 16."},
    )
    pre_seq_len: int | None = field(
        default=None,
        metadata={
            "help": "Virtual tokens of ptuning_v2, 128 by default; given alone it implies "
            "--tuner ptuning_v2."
        },
    )
    prefix_projection: bool = field(
        default=False, metadata={"help": "Compute the prefix by a small network while training."}
    )
    num_trainable_layers: int | None = field(
        default=None,
        metadata={"help": "Layers that freeze trains, default 2: N the last, -N the first ones."},
    )

    def __post_init__(self) -> None:
        """Read comma lists (the older scripts write them), settle the tuner, refuse clashes."""
        self.target_modules = split_names(self.target_modules)
        if self.modules_to_save:
            self.modules_to_save = split_names(self.modules_to_save)
        self._settle_tuner()
        self._refuse_clashes()
        self._refuse_sizes()
        if self.tuner == PTUNING_V2 and not self.peft_path:
            self.pre_seq_len = self.pre_seq_len or DEFAULT_PREFIX_TOKENS
        if self.tuner == FREEZE:
            self.num_trainable_layers = self.num_trainable_layers or DEFAULT_TRAINED_LAYERS

    @property
    def is_pissa(self) -> bool:
        """Whether LoRA begins with a part of the weights, which the base then lacks."""
        return self.init_lora_weights.startswith(PISSA)

    def _settle_tuner(self) -> None:
        if self.use_peft:
            self.tuner = self.tuner or (LORA if self.pre_seq_len is None else PTUNING_V2)
        elif self.tuner in (None, FULL):
            self.tuner = FULL
        else:
            raise ConfigError(
                f"--use_peft False and --tuner {self.tuner} clash: the former trains all weights. "
                "Leave one of them out."
            )
        if self.peft_path and self.tuner not in (LORA, PTUNING_V2):
            name = f"--tuner {self.tuner}" if self.use_peft else "--use_peft False"
            raise ConfigError(
                f"--peft_path and {name} clash: an adapter cannot be continued without PEFT. "
                "Leave one of them out."
            )
        self.use_peft = self.tuner != FULL

    def _refuse_clashes(self) -> None:
        for name, owner in OWNERS.items():
            if self._is_given(name) and owner != self.tuner:
                raise ConfigError(
                    f"--{name} and --tuner {self.tuner} clash: the former belongs to --tuner "
                    f"{owner}. Leave one of them out."
                )
        if self.add_tokens and self.tuner == PTUNING_V2:
            raise ConfigError(
                f"--add_tokens and --tuner {PTUNING_V2} clash: a prefix has no place for rows of "
                "the embedding. Use --tuner lora, or add the tokens in an earlier stage."
            )
        for name in OF_NEW_LORA:
            if self.peft_path and self._is_given(name):
                raise ConfigError(
                    f"--{name} and --peft_path clash: a continued adapter stays of its own kind. "
                    "Leave one of them out."
                )
        if self.use_dora and self.is_pissa:
            raise ConfigError(
                f"--use_dora and --init_lora_weights {self.init_lora_weights} clash: what DoRA "
                "made of changed weights is no LoRA of the original ones. Leave one of them out."
            )

    def _refuse_sizes(self) -> None:
        for name, value in (("lora_rank", self.lora_rank), ("pre_seq_len", self.pre_seq_len)):
            if value is not None and value < 1:
                raise ConfigError(f"--{name}: expected 1 or more, found {value}.")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"--lora_dropout: expected 0 to below 1, found {self.lora_dropout}.")
        if self.loraplus_lr_ratio is not None and self.loraplus_lr_ratio < 1:
            raise ConfigError(
                f"--loraplus_lr_ratio: expected 1 or more, found {self.loraplus_lr_ratio:g}."
            )
        if self.num_trainable_layers == 0:
            raise ConfigError("--num_trainable_layers: expected a number but 0, found 0.")

    def _is_given(self, name: str) -> bool:
        return getattr(self, name) != type(self).__dataclass_fields__[name].default


def split_names(words: list[str]) -> list[str]:
    """Return the names in words that may be comma lists: ["a,b", "c"] -> ["a", "b", "c"]."""
    return [name.strip() for word in words for name in word.split(",")]
