"""Recompute every hash of a chain and stop at the first file that is not what it was."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from medtune.common.errors import CheckpointError
from medtune.common.files import sha256_of_file
from medtune.common.lineage import (
    COMPLETE_FILE,
    LINEAGE_FILE,
    TEMPLATE_FILE,
    WEIGHT_PATTERNS,
    describe_tokenizer,
    hash_weights,
)
from medtune.lineage.chain import Link, find_links, locate, walk
from medtune.lineage.records import Record, check_finished, find_record

SHOWN = 12  # hexadecimal digits of a hash
MB = 10**6
REMEDIES = {
    "output": "Restore that file from a copy, or make the folder again with the command that "
    "wrote it.",
    "base": "Restore that model, or make what rests on it again.",
    "tokenizer": "Restore that tokenizer, or train again with the one that is there now.",
    "data": "Restore that file; if it was changed on purpose, the model was trained on what it "
    "was before: train again.",
}


# What the one hash of a folder is over.
PARTS = {"base": ", ".join(WEIGHT_PATTERNS), "tokenizer": "tokenizer's files"}


class Verifier:
    """Hashes files, each once, and says of each whether it is what was recorded.

    say: receives one line for each thing checked.
    """

    def __init__(self, say: Callable[[str], None], allow_missing_data: bool = False) -> None:
        """Take where to say it, and whether data files may be gone."""
        self.say = say
        self.allow_missing_data = allow_missing_data
        self.hashes: dict[Path, str] = {}
        self.said: set[tuple[Path, str]] = set()
        self.num_unchecked = 0
        self.num_bytes = 0
        self.seconds = 0.0

    def verify(self, record: Record) -> None:
        """Check all of a chain. Raises CheckpointError naming the first file that differs."""
        for one in walk(record):
            check_finished(one)
            self.say(f"{one.stage}: {one.output}")
            self.check_outputs(one)
            for link in find_links(one):
                self.check_link(one, link)
            self.check_tokenizer(one)
            self.check_data(one)

    def check_outputs(self, record: Record) -> None:
        """Check what a stage, a merge or an evaluation wrote."""
        if not record.outputs:
            self.line("unknown", None, f"{record.output}: written by a medtune that kept no hashes")
        for name, sha256 in {**record.certified, **record.outputs}.items():
            self.check_file(record.folder / name, sha256, record, "output")

    def check_link(self, record: Record, link: Link) -> None:
        """Check a model that a record rests on: its lineage first, which then tells its files."""
        reference, place = link.reference, link.place
        if reference.sha256 is None:
            self.line("hub", None, f"{reference.path}: a name, not a folder; not checked")
            return
        if place is None:
            self.fail(Path(reference.path), reference.sha256, None, record, "base")
        if reference.parent is not None:
            self.check_file(place / LINEAGE_FILE, reference.parent, record, "base")
        found = hash_weights(place, self.hash)
        if found != reference.sha256:
            self.fail_weights(link, found, record)
        self.say_ok(place, found, f"{place} ({reference.role}: {PARTS['base']})")

    def fail_weights(self, link: Link, found: str, record: Record) -> NoReturn:
        """Name the file of a model that differs; the whole folder if no lineage tells its files."""
        reference, place, made = link.reference, link.place, link.read()
        assert place is not None and reference.sha256 is not None
        if made is not None and made.weights == reference.sha256:
            self.check_each(made, place)
        self.fail(place, reference.sha256, found, record, "base")

    def check_each(self, made: Record | None, place: Path) -> None:
        """Check the files of a model that medtune made, so that the one that differs is named."""
        if made is None:
            return
        for name, sha256 in made.outputs.items():
            self.check_file(place / name, sha256, made, "base")

    def check_tokenizer(self, record: Record) -> None:
        """Check the tokenizer that a stage started from: the base's, or one of its own."""
        recorded = record.inputs.get("tokenizer", {})
        base = (record.inputs.get("base") or {}).get("path")
        name = recorded.get("path") or record.options.get("tokenizer_name_or_path") or base
        if not name or not recorded.get("files"):
            return
        place = locate(name, record.output)
        if place is None:
            self.fail(Path(name), recorded["files"], None, record, "tokenizer")
        template = place / TEMPLATE_FILE
        if recorded.get("chat_template"):
            self.check_file(template, recorded["chat_template"], record, "tokenizer")
        found = describe_tokenizer(place)["files"]
        if found != recorded["files"]:
            self.check_each(find_record(place), place)
            self.fail(place, recorded["files"], found, record, "tokenizer")
        self.say_ok(place, recorded["files"], f"{place} ({PARTS['tokenizer']})")

    def check_data(self, record: Record) -> None:
        """Check each data file of a stage or an evaluation."""
        for name, sha256 in record.data.items():
            place = locate(name, record.output)
            if place is None and self.allow_missing_data:
                self.line("missing", sha256, f"{name} (allowed)")
            else:
                self.check_file(place or Path(name), sha256, record, "data")

    def check_file(self, path: Path, sha256: str, record: Record, kind: str) -> None:
        """Check one file. kind: which remedy to name if it differs."""
        found = self.hash(path) if path.is_file() else None
        if found != sha256:
            self.fail(path, sha256, found, record, kind)
        self.say_ok(path, sha256, str(path))

    def fail(
        self, path: Path, sha256: str, found: str | None, record: Record, kind: str
    ) -> NoReturn:
        """Say what differs and raise CheckpointError."""
        self.line("missing" if found is None else "changed", found, str(path))
        is_certified = kind == "output" and path.name in record.certified
        told_by = record.folder / COMPLETE_FILE if is_certified else record.file
        over = f" over its {PARTS[kind]}" if path.is_dir() else ""
        raise CheckpointError(
            f"{path}: expected sha256 {sha256[:SHOWN]}{over}, as recorded in {told_by}, found "
            f"{'nothing there' if found is None else found[:SHOWN]}. {REMEDIES[kind]}"
        )

    def hash(self, path: Path) -> str:
        """Return the SHA-256 of a file, read at most once. Raises CheckpointError: unreadable."""
        key = path.resolve()
        if key not in self.hashes:
            started = time.monotonic()
            try:
                self.hashes[key] = sha256_of_file(path)
                self.num_bytes += path.stat().st_size
            except OSError as error:
                raise CheckpointError(f"{path}: expected a file to read: {error}") from error
            self.seconds += time.monotonic() - started
        return self.hashes[key]

    def say_ok(self, path: Path, sha256: str, text: str) -> None:
        """Say that something is as it was, once however often it is named."""
        if (path, sha256) not in self.said:
            self.said.add((path, sha256))
            self.line("ok", sha256, text)

    def line(self, state: str, sha256: str | None, text: str) -> None:
        """Say one line: state, short hash, what; and count it if it could not be checked."""
        self.num_unchecked += state not in ("ok", "changed")
        self.say(f"  {state:<8} {(sha256 or '-')[:SHOWN]:<{SHOWN}} {text}")

    def describe_work(self) -> str:
        """Return how much was checked and how fast."""
        size = self.num_bytes / MB
        return (
            f"as recorded: {len(self.said):,} checked, {self.num_unchecked:,} not; hashed "
            f"{len(self.hashes):,} files, {size:,.1f} MB in {self.seconds:.1f} s "
            f"({size / max(self.seconds, 1e-6):,.0f} MB/s)"
        )
