"""What chat.py takes."""

from dataclasses import dataclass, field

from medtune.common.errors import ConfigError


@dataclass
class ChatArguments:
    """Whom to talk to, and what is kept of the talk."""

    adapter: str | None = field(
        default=None,
        metadata={
            "help": "Adapter folder (LoRA or prefix) to put on the model, without a merge.",
            "aliases": ["--lora_model"],
        },
    )
    compare: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Adapters of the same base, or models, to ask beside it; the base is always "
            "there."
        },
    )
    system: str | None = field(default=None, metadata={"help": "System message; default: none."})
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest conversation in the model, in tokens; default: the model's."},
    )
    batch: str | None = field(
        default=None,
        metadata={
            "help": "File to answer: a question a line, or JSON lines with messages or question; "
            "standard output gets a JSON line for each."
        },
    )
    no_log: bool = field(
        default=False, metadata={"help": "Keep no file of what was asked and answered."}
    )
    log_dir: str = field(
        default="chat_logs",
        metadata={"help": "Folder for one .jsonl file a chat, readable by you alone."},
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.max_length is not None and self.max_length < 2:
            raise ConfigError(f"--max_length: expected 2 or more, found {self.max_length}.")
