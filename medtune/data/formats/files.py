"""Files to numbered rows: JSON lines, JSON, CSV, Parquet, Excel, and the lines of text files.

Nothing is decoded by chance: an encoding is taken only if it reads the whole file, and a line that
it cannot read is named. Numbers are those an editor shows: the line on which a row begins; in a
JSON array, Parquet or Excel file the row's position (Excel: as in its margin), from 1.
"""

import codecs
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from medtune.arguments import AUTO
from medtune.common.errors import DataError
from medtune.common.log import logger
from medtune.data.formats.checks import MalformedRow

ENCODINGS = (AUTO, "utf-8", "gb18030", "utf-16", "utf-16-le", "utf-16-be")
UTF8, GB18030 = "utf-8-sig", "gb18030"  # the first with or without a byte-order mark
TEXT_SUFFIXES = (".txt",)
JSON_SUFFIXES = (".jsonl", ".json")
ROW_SUFFIXES = (*JSON_SUFFIXES, ".csv", ".tsv", ".parquet", ".xlsx")
BINARY_SUFFIXES = (".parquet", ".xlsx")
CHUNK_BYTES = 1 << 16
SHARE_OF_ZEROS = 0.1  # of the bytes of a UTF-16 file with some Latin signs in it
Row = tuple[int, Any]  # its number, and what was parsed or the MalformedRow it became

csv.field_size_limit(sys.maxsize)


def read_rows_of(path: Path, encoding: str = AUTO) -> Iterator[Row]:
    """Yield the numbered rows of any file but text. Raises DataError for one that cannot be read.

    A row that does not parse yields a MalformedRow in its place, so that the caller decides.
    """
    readers = {".csv": read_csv_rows, ".tsv": read_csv_rows}
    if path.suffix == ".parquet":
        return read_parquet_rows(path)
    if path.suffix == ".xlsx":
        return read_excel_rows(path)
    return readers.get(path.suffix, read_json_rows)(path, encoding)


# -- encodings


def encoding_of(path: Path, encoding: str = AUTO) -> str:
    """Return the codec that reads a file: the one that was named, or the one that was found."""
    if encoding != AUTO:
        return UTF8 if encoding == "utf-8" else encoding
    state = path.stat()
    return _find_encoding(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _find_encoding(path: Path, size: int, changed_ns: int) -> str:
    """Look through a file once for each state of it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        head = file.read(CHUNK_BYTES)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if zeros.count(0) > max(2, SHARE_OF_ZEROS * len(head)):
                return name
        chunk = head
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(CHUNK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _gb18030_or_broken(path)
    return UTF8


def _gb18030_or_broken(path: Path) -> str:
    """Return GB18030 if it reads all, and most lines cannot be UTF-8; else UTF-8, to be refused.

    A few lines of another encoding in a UTF-8 file are a blemish to be named, no reason to read
    all the others as what they are not.
    """
    num_utf8 = num_others = 0
    with path.open("rb") as file:
        for line in file:
            if line.isascii():
                continue
            if decodes(line, "utf-8"):
                num_utf8 += 1
            else:
                num_others += 1
            if num_others and not decodes(line, GB18030):
                return UTF8
    return GB18030 if num_others > num_utf8 else UTF8


def decodes(line: bytes, encoding: str) -> bool:
    """True if these bytes are text in this encoding."""
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def not_text(path: Path, encoding: str) -> DataError:
    """Return the error that names the first line which the encoding cannot read."""
    name = "UTF-8" if encoding == UTF8 else encoding
    if encoding in (UTF8, GB18030):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode(encoding if number == 1 else encoding.removesuffix("-sig"))
                except UnicodeDecodeError as error:
                    return DataError(
                        f"{path}:{number}: expected {name} text, found byte "
                        f"0x{line[error.start]:02x}; mend the line, or name the encoding of the "
                        "whole file with --encoding."
                    )
    return DataError(
        f"{path}:1: expected {name} text, found bytes that are none; name another --encoding "
        f"({', '.join(ENCODINGS)})."
    )


def read_lines(path: Path, encoding: str = AUTO) -> Iterator[str]:
    """Yield a file's lines without their ends (`\\n`, `\\r\\n`, `\\r`) and byte-order mark.

    The lines joined by `\\n` are the whole text.   Raises DataError with `file:line` for bytes that
    are no text.
    """
    codec = encoding_of(path, encoding)
    line = "\n"
    try:
        with path.open(encoding=codec) as file:
            for line in file:
                yield line.removesuffix("\n")
    except UnicodeError as error:
        raise not_text(path, codec) from error
    if line.endswith("\n"):
        yield ""


# -- JSON


def read_json_rows(path: Path, encoding: str = AUTO) -> Iterator[Row]:
    """Yield (line, row) from JSON lines, or (position, row) from a file that is one value.

    Lines are read one at a time. A file that is one array is read whole, as is one object over
    several lines: its rows are those of the lists in it, or it is one row itself.
    """
    is_first = True
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line.strip():
            continue
        if is_first and is_one_value(path, line):
            yield from enumerate(
                rows_of_value(parse_json("\n".join(read_lines(path, encoding)))), start=1
            )
            return
        is_first = False
        yield number, parse_json(line)


def is_one_value(path: Path, first_line: str) -> bool:
    """True if a file is one JSON value, by its first line with something on it."""
    text = first_line.strip()
    return text.startswith("[") or (path.suffix == ".json" and text in ("{", '{"data": ['))


def rows_of_value(value: Any) -> Iterable[Any]:
    """Return the rows of a file that is one JSON value."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and value and all(isinstance(v, list) for v in value.values()):
        return [row for rows in value.values() for row in rows]
    return [value]


def parse_json(text: str) -> Any:
    """Return the parsed JSON, or a MalformedRow that says where it breaks."""
    try:
        value = json.loads(text)
    except (RecursionError, ValueError) as error:
        if not isinstance(error, json.JSONDecodeError):  # nested too deep, a number too long
            return MalformedRow("invalid_json", f"expected JSON, found: {error}; mend the line.")
        place = f"line {error.lineno}, " * (error.lineno > 1) + f"character {error.colno}"
        message = f"expected JSON, found: {error.msg.lower()} ({place})"
        return MalformedRow("invalid_json", f"{message}; mend or remove the line.")
    if not isinstance(value, dict | list):
        kind = type(value).__name__
        return MalformedRow(
            "not_an_object", f"expected an object {{…}}, found {kind}; mend the line."
        )
    return value


# -- tables


def read_csv_rows(path: Path, encoding: str = AUTO) -> Iterator[Row]:
    """Yield (line, {column: cell}) of a table whose first row names its columns.

    A cell in quotes may hold line breaks. Columns are parted by the commonest of tab, comma and
    semicolon in the first row.
    """
    codec = encoding_of(path, encoding)
    try:
        with path.open(encoding=codec, newline="") as file:
            first = file.readline()
            delimiter = max("\t,;", key=first.count)
            file.seek(0)
            yield from table_rows(csv.reader(file, delimiter=delimiter, strict=True))
    except UnicodeError as error:
        raise not_text(path, codec) from error


def table_rows(reader: Any) -> Iterator[Row]:
    """Yield (line, {column: cell}) from a csv.reader."""
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"expected cells, those with quotes closed, found: {error}; mend the row."
            yield number, MalformedRow("invalid_csv", message)
            continue
        if not any(cells):
            continue
        if header is None:
            header = [name.strip() for name in cells]
        elif len(cells) != len(header):
            message = (
                f"expected {len(header)} cells as in the first row, found {len(cells)}; put a cell "
                "that holds a separator in quotes."
            )
            yield number, MalformedRow("wrong_number_of_cells", message)
        else:
            yield number, dict(zip(header, cells, strict=True))


def read_parquet_rows(path: Path) -> Iterator[Row]:
    """Yield (position, row) of a Parquet file, a thousand rows in memory at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}:{number + 1}: expected a Parquet file, found: {error}; write it again."
        ) from error


def read_excel_rows(path: Path) -> Iterator[Row]:
    """Yield (row number, {column: cell as text}) of the first sheet; its first row names them."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # a zip file, XML and a spreadsheet: each fails in its own way
        raise DataError(
            f"{path}:1: expected an Excel workbook, found: {error}; save it again as .xlsx or .csv."
        ) from error
    if len(book.worksheets) > 1:
        logger.warning("%s: the first of %s sheets is read", path, len(book.worksheets))
    header: list[str] | None = None
    for number, cells in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
        texts = ["" if cell is None else str(cell) for cell in cells]
        if not any(texts):
            continue
        if header is None:
            header = texts
        else:
            yield number, dict(zip(header, texts, strict=False))
    book.close()
