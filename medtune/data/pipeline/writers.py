"""Sets and rejects, a file for each task: OUTPUT/train/00000.jsonl, OUTPUT/rejects/REASON/….

Both are datatrove's DiskWriter, so that they go wherever a writer of its own would.
"""

import json
from typing import IO, Any

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from medtune.data.curation.options import PrepareArguments
from medtune.data.curation.sets import part_of
from medtune.data.pipeline.documents import REASON, RECORD, REJECT, record_of
from medtune.data.writing import row_of

OTHER = "other"  # what a step of datatrove drops without a word


class LinesWriter(DiskWriter):
    """JSON lines as prepare_data.py writes them, not compressed."""

    def __init__(self, output_folder: str, output_filename: str) -> None:
        """Write below a folder, to a name with ${rank} in it."""
        super().__init__(output_folder, output_filename, compression=None, mode="wb")

    def _write(self, document: dict[str, Any], file_handler: IO[bytes], _filename: str) -> None:
        line = json.dumps(document, ensure_ascii=False) + "\n"
        # A rejected row may hold half of a surrogate pair, which is no text: escaped.
        file_handler.write(line.encode("utf-8", errors="backslashreplace"))


class SetsWriter(LinesWriter):
    """Each row to its part by the seeded hash of its question, whatever task reads it."""

    name = "medtune sets"

    def __init__(self, arguments: PrepareArguments) -> None:
        """Write OUTPUT/{train,validation,test}/TASK.jsonl in the shape of `to`."""
        super().__init__(arguments.output, "${part}/${rank}.jsonl")
        self.arguments = arguments

    def write(self, document: Document, rank: int = 0, **names: str) -> None:
        """Write a document to the part of its question."""
        part = part_of(record_of(document).key, self.arguments)
        super().write(document, rank, part=part, **names)

    def _default_adapter(self, document: Document) -> dict[str, Any]:
        record = record_of(document)
        return row_of(record, self.arguments.to) | {"source": str(record.source)}


class RejectsWriter(LinesWriter):
    """The lines of rejects.jsonl, by reason; an exclusion writer for any step of datatrove.

    Of rows that a check leaves out, it writes the place and the reason, never the text.
    """

    name = "medtune rejects"

    def __init__(self, arguments: PrepareArguments, reason: str | None = None) -> None:
        """Write OUTPUT/rejects/REASON/TASK.jsonl; `reason` is for steps that name none."""
        super().__init__(arguments.output, "rejects/${reason}/${rank}.jsonl")
        self.reason = reason

    def write(self, document: Document, rank: int = 0, **names: str) -> None:
        """Write the line of a document that a step drops."""
        super().write(document, rank, reason=self.reason_of(document), **names)

    def reason_of(self, document: Document) -> str:
        """Return why a document is dropped."""
        return self.reason or document.metadata.get(REASON) or OTHER

    def _default_adapter(self, document: Document) -> dict[str, Any]:
        if REJECT in document.metadata:
            return document.metadata[REJECT]
        fields, reason = document.metadata[RECORD], self.reason_of(document)
        message = f"left out as {reason} by a step of datatrove."
        place = {"file": fields["path"], "line": fields["line"]}
        return {**place, "reason": reason, "message": message, "row": None}
