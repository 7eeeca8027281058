"""From a record to the models that it names, wherever they lie now, down to the base."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medtune.common.errors import CheckpointError
from medtune.lineage.records import Record, Reference, find_record


@dataclass(frozen=True)
class Link:
    """A model that a record names, and where it was found.

    place: None for a hub name and for a folder that is gone.
    """

    reference: Reference
    place: Path | None

    def read(self) -> Record | None:
        """Return the model's own record, None where the chain ends.

        A base that had no lineage then is where the chain ends, whatever it has now.
        """
        follows = self.place is not None and self.reference.parent is not None
        return find_record(self.place) if follows and self.place else None


def locate(path: str, output: Path) -> Path | None:
    """Return where a recorded path is now: as it stands, else beside or above `output`.

    Whoever moves a project as a whole moves what lies below it: so the path, and then what is left
    of it without its first parts, is looked for below each folder that `output` lies in.
    Example: data/a.jsonl of /new/outputs/sft-v1 -> /new/data/a.jsonl
    """
    given = Path(path)
    if given.exists():
        return given
    parts = given.parts[1:] if given.is_absolute() else given.parts
    above = output.resolve().parents
    places = (folder.joinpath(*parts[start:]) for start in range(len(parts)) for folder in above)
    return next((place for place in places if place.exists()), None)


def find_links(record: Record) -> list[Link]:
    """Return every model that a record names, in its order."""
    return [
        Link(one, locate(one.path, record.output) if one.sha256 else None)
        for one in record.references()
    ]


def walk(record: Record) -> Iterator[Record]:
    """Yield the record and every record that it rests on, each once, nearest first.

    Raises CheckpointError for a record that rests on itself.
    """
    yield from walk_from(record, above=(), seen=set())


def walk_from(record: Record, above: tuple[Path, ...], seen: set[Path]) -> Iterator[Record]:
    """Yield as `walk` does. above: the files on the way here; seen: all that were yielded."""
    file = record.file.resolve()
    check_no_cycle(file, above)
    if file in seen:
        return
    seen.add(file)
    yield record
    for link in find_links(record):
        if (made := link.read()) is not None:
            yield from walk_from(made, (*above, file), seen)


def check_no_cycle(file: Path, above: tuple[Path, ...]) -> None:
    """Raise CheckpointError if `file` is one of the files on the way to it."""
    if file in above:
        raise CheckpointError(
            f"{file}: expected a model made before those that were made from it, found a chain "
            "that leads back to it: a folder was replaced by one that was made later."
        )
