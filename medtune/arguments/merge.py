"""What merge_peft_adapter.py takes."""

from dataclasses import dataclass, field

from medtune.common.errors import ConfigError

ORIGINAL, DEQUANTISED = "original", "dequantised"


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
    quantised_base: str | None = field(
        default=None,
        metadata={
            "help": "What an adapter is added to that was trained on a base in 4 or 8 bits: "
            "original (the base's own weights) or dequantised (what its bits stand for: the model "
            "that was trained).",
            "choices": [ORIGINAL, DEQUANTISED],
        },
    )
    max_logit_difference: float | None = field(
        default=None,
        metadata={
            "help": "With --quantised_base: the most that logits may differ from the model as it "
            "was trained, as a share of the largest logit. Default: rounding for 4 bits "
            "dequantised, else twice what quantisation makes of the base alone."
        },
    )
    push_to_hub: str | None = field(
        default=None,
        metadata={
            "help": "Upload the merged folder to this repository of the hub, NAME or OWNER/NAME; "
            "the token is that of `hf auth login` or of HF_TOKEN.",
            "aliases": ["--hf_hub_model_id"],
        },
    )
    hub_private_repo: bool = field(
        default=True, metadata={"help": "Whether a repository that --push_to_hub makes is private."}
    )
    hf_hub_token: str | None = field(
        default=None,
        metadata={"help": "Token for --push_to_hub, never written down; better by HF_TOKEN."},
    )

    def __post_init__(self) -> None:
        """Refuse a limit that would mean nothing."""
        if self.max_logit_difference is not None and not (
            self.quantised_base and self.max_logit_difference > 0
        ):
            raise ConfigError(
                "--max_logit_difference: expected a number above 0 beside --quantised_base, found "
                f"{self.max_logit_difference:g} and --quantised_base {self.quantised_base}."
            )
