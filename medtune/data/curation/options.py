"""What a user says to prepare_data.py."""

from dataclasses import dataclass, field

from medtune.arguments import DOC_SEPARATORS, OFF, ScreeningArguments
from medtune.common.errors import ConfigError
from medtune.data.writing import SHAPES


@dataclass
class PrepareArguments(ScreeningArguments):
    """What is read, where the sets go and what becomes of the rows."""

    input: str = field(metadata={"help": "File, or folder that is searched to any depth."})
    output: str = field(metadata={"help": "Folder for the three sets, the rejects and the report."})
    seed: int = field(default=42, metadata={"help": "Of the split."})
    validation_percentage: float = field(
        default=5.0, metadata={"help": "Percent of the distinct questions for validation."}
    )
    test_percentage: float = field(
        default=5.0, metadata={"help": "Percent of the distinct questions for the test set."}
    )
    to: str = field(
        default="messages",
        metadata={"help": "Shape that conversations are written in.", "choices": list(SHAPES)},
    )
    doc_separator: str = field(
        default="blank_line",
        metadata={
            "help": "What one document of a text file is.",
            "choices": DOC_SEPARATORS,
        },
    )
    keep_duplicates: bool = field(
        default=False, metadata={"help": "Keep rows that say the same as an earlier one."}
    )
    near_duplicates: str = field(
        default=OFF,
        metadata={
            "help": "What becomes of rows that say nearly the same as an earlier one.",
            "choices": [OFF, "report", "drop"],
        },
    )
    max_characters: int | None = field(
        default=None, metadata={"help": "Leave out rows with more characters."}
    )
    skip_malformed: bool = field(
        default=False,
        metadata={"help": "Leave out and count rows that are no records, instead of stopping."},
    )
    show: int = field(default=0, metadata={"help": "Print so many rows as a model will see them."})
    tokenizer: str = field(
        default="tiny-glm", metadata={"help": "Of --show: folder, hub name or the built-in model."}
    )

    def __post_init__(self) -> None:
        """Refuse percentages that leave nothing to train on."""
        shares = (self.validation_percentage, self.test_percentage)
        if min(shares) < 0 or sum(shares) >= 100:
            raise ConfigError(
                "--validation_percentage, --test_percentage: expected 0 or more and less than 100 "
                f"together, found {shares[0]:g} and {shares[1]:g}."
            )
