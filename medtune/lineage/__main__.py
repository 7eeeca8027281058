"""Say what made a model, and check that it is still what it was.

    python -m medtune.lineage verify outputs/tiny-dpo-merged
    python -m medtune.lineage show outputs/tiny-summary.json
    python -m medtune.lineage data outputs/tiny-dpo-merged
    python -m medtune.lineage models data/finetune/drugs.jsonl --under outputs

OUTPUT is the folder of a stage or a merge, or the JSON file of a summary. See docs/lineage.md.
"""

import argparse
import json
from pathlib import Path
from typing import NoReturn

from medtune.common.errors import ConfigError, run_script
from medtune.common.files import sha256_of_file
from medtune.lineage.records import load_record
from medtune.lineage.report import describe, print_sightings, print_tree, print_uses
from medtune.lineage.uses import find_records, find_sightings
from medtune.lineage.verification import SHOWN, Verifier


class CommandParser(argparse.ArgumentParser):
    """ArgumentParser that answers a mistake as the rest of medtune does."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing the whole usage and leaving."""
        raise ConfigError(f"{message}. `python -m medtune.lineage --help` lists all commands.")


def build_parser() -> CommandParser:
    """Return the parser of the four commands."""
    parser = CommandParser(
        prog="python -m medtune.lineage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, word: str = "output") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument(word, type=Path, metavar=word.upper())
        return command

    add("verify", "Recompute every hash down to the base; name the first file that differs.")
    commands.choices["verify"].add_argument(
        "--allow_missing_data",
        action="store_true",
        help="Data files that are gone are no mismatch; changed ones are.",
    )
    show = add("show", "Print the tree from a model to its base.")
    show.add_argument("--json", action="store_true", help="Print it as JSON.")
    add("data", "Which data made this model: every file of every stage.")
    models = add("models", "Which models saw this file, told by its content.", word="file")
    models.add_argument(
        "--under",
        type=Path,
        default=Path("outputs"),
        metavar="DIR",
        help="Folder to search to any depth; default: outputs.",
    )
    return parser


def main(argv: list[str]) -> None:
    """Run one of the four commands. Raises ConfigError and CheckpointError."""
    words = build_parser().parse_args(argv)
    if words.command == "models":
        print_models(words.file, words.under)
        return
    record = load_record(words.output)
    if words.command == "verify":
        verifier = Verifier(print, words.allow_missing_data)
        verifier.verify(record)
        print(verifier.describe_work())
    elif words.command == "data":
        print_uses(record)
    elif words.json:
        print(json.dumps(describe(record), ensure_ascii=False, indent=2))
    else:
        print_tree(describe(record))


def print_models(file: Path, folder: Path) -> None:
    """Print which models saw a file. Raises ConfigError if file or folder is not there."""
    if not file.is_file():
        raise ConfigError(f"{file}: expected the data file to look for, found no file there.")
    if not folder.is_dir():
        raise ConfigError(f"--under {folder}: expected the folder to search, found none there.")
    sha256 = sha256_of_file(file)
    records, problems = find_records(folder)
    found = find_sightings(records, sha256)
    print_sightings(found)
    if not found:
        print(f"nothing below {folder} saw a file of this content")
    print(f"sha256 {sha256[:SHOWN]}, looked for in {len(records):,} lineages below {folder}")
    for problem in problems:
        print(f"left out: {problem}")


if __name__ == "__main__":
    run_script(main)
