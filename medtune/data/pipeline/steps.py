"""The reader and the checks of prepare_data.py as steps of datatrove, with the same options.

Each takes the PrepareArguments of the whole run; what these switch off, a step lets pass. Rows that
are left out go to a RejectsWriter, unless another `exclusion_writer` is given, and are counted in
datatrove's statistics by reason.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from medtune.arguments import OFF
from medtune.common.log import logger
from medtune.data.contamination.gate import ContaminationGate
from medtune.data.contamination.report import ContaminationReport
from medtune.data.curation.judge import hygiene_options
from medtune.data.curation.options import PrepareArguments
from medtune.data.curation.sets import check_apart, items_of
from medtune.data.formats.inspection import form_of_file
from medtune.data.hygiene.rules import reject_row
from medtune.data.parts import Reject
from medtune.data.pipeline.documents import (
    REJECT,
    document_of,
    document_of_reject,
    record_of,
    replace_record,
)
from medtune.data.pipeline.writers import RejectsWriter
from medtune.data.reading import SUFFIXES, find_files, format_options
from medtune.data.screening import contaminated, gate_of, without_patients

READ, MALFORMED, REJECTED, FOUND = "rows_read", "malformed", "rejected_", "found_"
MATCHES_FOLDER = "matches"
Verdict = bool | tuple[bool, str]


class RecordReader(PipelineStep):
    """The records of all files of `input` that prepare_data.py reads; task r takes every n-th file.

    Raises what curate raises for a folder or file that cannot be read.
    """

    type = "READER"
    name = "medtune rows"

    def __init__(
        self, arguments: PrepareArguments, exclusion_writer: DiskWriter | None = None
    ) -> None:
        """Read what the options name; rows that become no record go to the exclusion writer."""
        super().__init__()
        self.arguments = arguments
        self.exclusion_writer = exclusion_writer or RejectsWriter(arguments)

    def run(
        self, data: Iterator[Document] | None = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Yield the documents of this task's files, after those of the steps before."""
        if data:
            yield from data
        files = find_files(self.arguments.input, SUFFIXES)
        check_apart(files, Path(self.arguments.output))
        if rank >= len(files):
            logger.warning("task %d of %d has no file: a file is not divided", rank, world_size)
        with self.exclusion_writer as rejects:
            for file in files[rank::world_size]:
                self.stat_update("input_files")
                yield from self.read_file(file, rejects, rank)

    def read_file(self, file: Path, rejects: DiskWriter, rank: int) -> Iterator[Document]:
        """Yield the documents of one file; count all of its rows."""
        formats = format_options(self.arguments, self.arguments.doc_separator)
        for item in items_of(file, form_of_file(file, formats), formats):
            self.stat_update(READ)
            if isinstance(item, Reject):
                self.stat_update(f"{REJECTED}{item.reason}")
                if item.is_malformed:
                    self.stat_update(MALFORMED)
                rejects.write(document_of_reject(item), rank)
                continue
            document = document_of(item)
            self.update_doc_stats(document)
            yield document


class RowRules(BaseFilter):
    """The rules that look at one row alone: lost bytes, length, rows that say nothing."""

    name = "medtune row rules"

    def __init__(
        self, arguments: PrepareArguments, exclusion_writer: DiskWriter | None = None
    ) -> None:
        """Apply the rules as the options have them."""
        super().__init__(exclusion_writer or RejectsWriter(arguments))
        self.options = hygiene_options(arguments)

    def filter(self, doc: Document) -> Verdict:
        """Return True, or False and the first rule that the row breaks."""
        reject = reject_row(record_of(doc), self.options)
        return refuse(doc, reject) if reject else True


class PatientsData(BaseFilter):
    """Patients' data reported, masked or left out, as `patients_data` says."""

    name = "medtune patients' data"

    def __init__(
        self, arguments: PrepareArguments, exclusion_writer: DiskWriter | None = None
    ) -> None:
        """Do what the options say; findings are counted by kind."""
        super().__init__(exclusion_writer or RejectsWriter(arguments))
        self.mode = str(arguments.patients_data)

    def filter(self, doc: Document) -> Verdict:
        """Return True, with the document masked where that is asked for, or False and a reason."""
        if self.mode == OFF:
            return True
        found: Counter[str] = Counter()
        record = record_of(doc)
        judged = without_patients(record, self.mode, found)
        for kind, number in found.items():
            self.stat_update(f"{FOUND}{kind}", value=number)
        if isinstance(judged, Reject):
            return refuse(doc, judged)
        if judged is not record:
            replace_record(doc, judged)
        return True


class EvaluationItems(BaseFilter):
    """Rows that hold an item of `eval_files` left out; each match in OUTPUT/matches/TASK.jsonl."""

    name = "medtune evaluation items"

    def __init__(
        self, arguments: PrepareArguments, exclusion_writer: DiskWriter | None = None
    ) -> None:
        """Look for the items of the evaluation files, if the options name any."""
        super().__init__(exclusion_writer or RejectsWriter(arguments))
        self.arguments = arguments
        # Read by each task: a step is sent to its task as it is, and the items are many.
        self.gate: ContaminationGate | None = None
        self.report: ContaminationReport | None = None

    def run(
        self, data: Iterator[Document], rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Yield the documents without an item."""
        self.gate = gate_of(self.arguments)
        self.report = self.gate.new_report() if self.gate else None
        yield from super().run(data, rank, world_size)
        if self.report is not None:
            folder = Path(self.arguments.output) / MATCHES_FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            self.report.write_matches(folder / f"{rank:05d}.jsonl")

    def filter(self, doc: Document) -> Verdict:
        """Return True for a row without an item, else False and the reason."""
        if self.gate is None or self.report is None:
            return True
        record = record_of(doc)
        matches = self.gate.matches(record)
        self.report.add(matches)
        return refuse(doc, contaminated(record, matches)) if matches else True


def refuse(document: Document, reject: Reject) -> tuple[bool, str]:
    """Return what datatrove counts a dropped document under, and keep the line for rejects."""
    document.metadata[REJECT] = reject.to_dict()
    return False, reject.reason
