"""What report.py takes."""

from dataclasses import dataclass, field
from pathlib import Path

from medtune.common.errors import ConfigError
from medtune.report.texts import LANGUAGES


@dataclass
class ReportArguments:
    """Which chain to show: by its evaluations, or by the names that run_all.sh gives."""

    evaluations: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders that evaluation.py wrote, in the order of the stages."},
    )
    outputs: str = field(
        default="outputs",
        metadata={"help": "Folder with the chain of --profile; not read with --evaluations."},
    )
    profile: str | None = field(
        default=None,
        metadata={
            "help": "Show what is in --outputs under the names of run_all.sh: <profile>-pt-v1, "
            "<profile>-pt-merged, <profile>-pt-evaluation, …"
        },
    )
    output_file: str | None = field(
        default=None,
        metadata={
            "help": "Page to write, .html; a .md of the same name is written beside it. "
            "Default: <outputs>/<profile>-report.html."
        },
    )
    language: str = field(
        default="zh",
        metadata={"help": "zh or en: of the Markdown, and what the page opens in."},
    )

    def __post_init__(self) -> None:
        """Raise ConfigError if no chain, or more than one, is named."""
        if bool(self.evaluations) == bool(self.profile):
            raise ConfigError(
                "expected one of --evaluations (folders that evaluation.py wrote) and --profile "
                f"(such as tiny), found {'both' if self.profile else 'neither'}."
            )
        if self.evaluations and self.output_file is None:
            raise ConfigError("--evaluations: expected --output_file FILE.html too, found none.")
        if self.output_file is not None and Path(self.output_file).suffix != ".html":
            raise ConfigError(
                f"--output_file {self.output_file}: expected a name that ends in .html; the "
                "Markdown is written beside it."
            )
        if self.language not in LANGUAGES:
            raise ConfigError(f"--language {self.language}: expected {' or '.join(LANGUAGES)}.")

    @property
    def page(self) -> Path:
        """Where the page is written."""
        return Path(self.output_file or Path(self.outputs) / f"{self.profile}-report.html")
