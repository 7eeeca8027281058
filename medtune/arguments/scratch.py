"""What new_model.py takes."""

from dataclasses import dataclass, field

from medtune.common.errors import ConfigError

BPE, WORDPIECE = "bpe", "wordpiece"


@dataclass
class NewModelArguments:
    """What a model to begin with is made from, and the tokenizer that it gets."""

    output_dir: str = field(metadata={"help": "Folder for the model; must be new or empty."})
    model_config: str | None = field(
        default=None,
        metadata={"help": "JSON file with a transformers configuration: an untrained model of it."},
    )
    base_model: str | None = field(
        default=None,
        metadata={
            "help": "Instead of --model_config: a trained model without a chat template (GPT-2); "
            "it gets the tokens and the template of questions and answers."
        },
    )
    texts: list[str] = field(
        default_factory=list,
        metadata={"help": "Files or folders, of any known format, that the tokenizer learns from."},
    )
    tokenizer: str = field(
        default=BPE,
        metadata={
            "help": "bpe: byte pairs as GPT-2's, <question>…<answer>… as template; wordpiece: "
            "characters and words as BERT's, [CLS]…[SEP]…[SEP] as template.",
            "choices": [BPE, WORDPIECE],
        },
    )
    vocab_size: int = field(
        default=8000,
        metadata={"help": "Most tokens that the tokenizer has, its control tokens among them."},
    )
    vocab_file: str | None = field(
        default=None,
        metadata={"help": "For wordpiece, instead of --texts: vocab.txt, a token a line."},
    )
    pad_to_multiple_of: int = field(
        default=1, metadata={"help": "Make the rows of the embedding a multiple of this, e.g. 64."}
    )
    seed: int = field(default=42, metadata={"help": "Of the first weights."})

    def __post_init__(self) -> None:
        """Refuse what clashes, naming both options."""
        for name in ("vocab_size", "pad_to_multiple_of"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name}: expected 1 or more, found {getattr(self, name)}.")
        if (self.model_config is None) == (self.base_model is None):
            raise ConfigError(
                "--model_config and --base_model: expected one of them: an untrained model, or a "
                "trained one that gets a chat template."
            )
        if self.base_model is not None and (self.texts or self.vocab_file):
            raise ConfigError(
                "--base_model clashes with --texts and --vocab_file: it brings its own tokenizer."
            )
        if self.model_config is not None and bool(self.texts) == bool(self.vocab_file):
            raise ConfigError(
                "--texts and --vocab_file: expected one of them: where the tokenizer comes from."
            )
        if self.vocab_file and self.tokenizer != WORDPIECE:
            raise ConfigError(f"--vocab_file: expected --tokenizer {WORDPIECE}, found {BPE}.")
