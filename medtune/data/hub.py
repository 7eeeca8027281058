"""Data sets named as on the Hugging Face hub: downloaded by `datasets`, kept as one Parquet file.

    ORG/NAME, ORG/NAME:SPLIT, ORG/NAME:CONFIG:SPLIT, and each with @REVISION after NAME

Code of a data set is never run: `datasets` refuses such sets. The file is in the cache folder, by
its name and revision, and the next run needs no network.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from medtune.common.cache import cache_root, read_or_build
from medtune.common.errors import DataError
from medtune.common.log import logger

NAME = re.compile(
    r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?:(?P<config>[\w.-]+):)?(?P<split>\w+))?"
)
DATA_SUFFIX = re.compile(r"\.(?:txt|jsonl?|csv|tsv|parquet|xlsx)$")  # then a file was meant


class HubName(NamedTuple):
    """Which rows of which set; None: the hub's default, and the split `train`."""

    name: str
    revision: str | None
    config: str | None
    split: str | None


def is_hub_name(text: str) -> bool:
    """True for ORG/NAME and its longer forms, if what is before the slash is no folder here."""
    is_name = bool(NAME.fullmatch(text)) and not DATA_SUFFIX.search(text)
    return is_name and not Path(text.partition("/")[0]).exists()


def downloaded(text: str) -> Path:
    """Return the file with the rows of a data set. Raises DataError if it cannot be had."""
    found = NAME.fullmatch(text)
    assert found, f"{text}: no hub name"
    wanted = HubName(**found.groupdict())
    mark = hashlib.sha256("\0".join(part or "" for part in wanted).encode()).hexdigest()[:12]
    file_name = f"{wanted.name.replace('/', '--')}.{wanted.split or 'train'}.parquet"

    def read(folder: Path) -> Path | None:
        return folder / file_name if (folder / file_name).is_file() else None

    def build(folder: Path) -> None:
        download(wanted, folder / file_name)

    path, is_built = read_or_build(cache_root() / "hub" / mark, read, build)
    if not is_built:
        logger.info("%s: read from cache %s (remove it to download again)", text, path)
    return path


def download(wanted: HubName, path: Path) -> None:
    """Write the rows of a split. Raises DataError."""
    from datasets import load_dataset  # slow to import
    from datasets.exceptions import DatasetsError

    where = wanted.name + (f"@{wanted.revision}" if wanted.revision else "")
    try:
        rows = load_dataset(
            wanted.name, wanted.config, split=wanted.split or "train", revision=wanted.revision
        )
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{where}: expected a folder or file here, or a data set of the hub, found: {error}. "
            "Mend the name, log in (hf auth login) for a closed set, or download it by hand and "
            "name the folder."
        ) from error
    rows.to_parquet(str(path))
    logger.info("%s: %s rows of the split %s", where, f"{len(rows):,}", wanted.split or "train")
