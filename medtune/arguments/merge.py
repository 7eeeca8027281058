"""What merge_peft_adapter.py takes."""

from dataclasses import dataclass, field


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
