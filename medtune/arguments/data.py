"""Which files are read, what is looked for in them, and how text becomes rows."""

from dataclasses import dataclass, field
from pathlib import Path

from medtune.arguments.model import AUTO
from medtune.common.errors import ConfigError

OFF, REPORT, MASK, DROP = "off", "report", "mask", "drop"  # what becomes of what is found
DOC_SEPARATORS = ["file", "blank_line", "line"]
CONVERSATION = "conversation"


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


@dataclass(kw_only=True)
class ScreeningArguments(FormatArguments):
    """What no row may hold: items of an evaluation, patients' data."""

    eval_files: list[str] = field(
        default_factory=list,
        metadata={"help": "Files or folders with evaluation items that must not be trained on."},
    )
    max_contaminated_percentage: float = field(
        default=0.0,
        metadata={
            "help": "Percent of the rows that may hold an evaluation item; they are left out in "
            "any case. With more of them the program refuses."
        },
    )
    patients_data: str = field(
        default=OFF,
        metadata={
            "help": "Look for patients' data, and what becomes of it: see docs/privacy.md.",
            "choices": [OFF, REPORT, MASK, DROP],
        },
    )


@dataclass
class DataArguments(ScreeningArguments):
    """Which files to read and how to split them."""

    train_file_dir: str = field(
        metadata={
            "help": "Folder (searched to any depth), file or hub name with the training data."
        }
    )
    mix: list[str] = field(
        default_factory=list,
        metadata={
            "help": "FOLDER=PERCENT, …: more training data, of which so many tokens are drawn that "
            "they are PERCENT of all tokens of an epoch; --train_file_dir has the rest."
        },
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
    max_source_length: int | None = field(
        default=None,
        metadata={
            "help": "Most tokens of a prompt, its header included: of longer ones the oldest turns "
            "go first, then the end of the question. See docs/data_formats.md."
        },
    )
    max_target_length: int | None = field(
        default=None,
        metadata={
            "help": "Most tokens of the last reply (of a pair: of each answer), its end token not "
            "counted; a longer one is cut and has no end token."
        },
    )
    max_train_samples: int | None = field(
        default=None,
        metadata={"help": "Use at most this many rows of --train_file_dir, chosen by the seed."},
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
        lengths = ("max_source_length", "max_target_length")
        for name in (*lengths, "max_train_samples", "max_eval_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name}: expected 1 or more, found {value}.")
        if self.validation_file_dir and same_path(self.validation_file_dir, self.train_file_dir):
            raise ConfigError(
                f"--validation_file_dir: expected other data than --train_file_dir, found the same "
                f"({self.train_file_dir}): a loss on training data measures nothing. Leave "
                "--validation_file_dir out to have a part split off."
            )
        known = [self.train_file_dir, self.validation_file_dir]
        for folder in mix_percentages(self.mix):
            if any(other and same_path(folder, other) for other in known):
                raise ConfigError(
                    f"--mix {folder}: expected other data than that of --train_file_dir, of "
                    "--validation_file_dir and of the others mixed in, found the same."
                )
            known.append(folder)


@dataclass
class BlockArguments:
    """How pretraining cuts text into documents and blocks."""

    block_size: int = field(
        default=1024, metadata={"help": "Tokens in a block; documents longer than it continue."}
    )
    doc_separator: str = field(
        default="blank_line",
        metadata={
            "help": "What one document is: a whole file, a block between blank lines, a line, or a "
            "conversation of any known format, as the chat template writes it.",
            "choices": [*DOC_SEPARATORS, CONVERSATION],
        },
    )

    def __post_init__(self) -> None:
        """Refuse a block too short to predict anything."""
        if self.block_size < 2:
            raise ConfigError(f"--block_size: expected 2 or more tokens, found {self.block_size}.")


def same_path(one: str, other: str) -> bool:
    """True if both names lead to the same file or folder."""
    return Path(one).resolve() == Path(other).resolve()


def mix_percentages(mix: list[str]) -> dict[str, float]:
    """Return the percentage of each folder that --mix names.

    Raises ConfigError for a word that is no FOLDER=PERCENT, or too much of all.
    """
    percentages: dict[str, float] = {}
    for word in mix:
        folder, _, text = word.rpartition("=")
        try:
            percent = float(text)
        except ValueError:
            percent = 0.0
        if folder in ("train", "validation"):
            raise ConfigError(
                f"--mix {word}: expected another name, because the ledger has parts of this one; "
                f"write ./{word}."
            )
        if not folder or not 0 < percent < 100 or folder in percentages:
            raise ConfigError(
                "--mix: expected FOLDER=PERCENT (above 0, below 100), each folder once, found "
                f"{word!r}; data/general=10 makes it a tenth of the tokens."
            )
        percentages[folder] = percent
    if sum(percentages.values()) >= 100:
        raise ConfigError(
            f"--mix: expected less than 100 percent together, found {' '.join(mix)}: the rest is "
            "what --train_file_dir has."
        )
    return percentages
