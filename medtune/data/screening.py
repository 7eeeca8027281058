"""What no row may hold: items of an evaluation, and patients' data. Off unless asked for."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from medtune.arguments import DROP, MASK, OFF, REPORT, ScreeningArguments
from medtune.common.log import logger
from medtune.data.contamination.gate import ContaminationGate, GateSettings
from medtune.data.contamination.report import MATCHES_FILE, ContaminationReport, Match
from medtune.data.loading import check_parts
from medtune.data.parts import VALIDATION, Loaded, Reader, Reject
from medtune.data.records import PreferencePair, Record, RecordT

CONTAMINATED = "contaminated"
PATIENTS_DATA = "patients_data"
EQUAL_WHEN_MASKED = "equal_when_masked"


class Screen:
    """Decides on one record at a time.   contamination: None without evaluation files."""

    def __init__(self, arguments: ScreeningArguments) -> None:
        """Read the evaluation items. Raises what reading them raises."""
        self.patients_data = arguments.patients_data
        self.gate = gate_of(arguments)
        self.contamination = self.gate.new_report() if self.gate else None

    def judge(
        self, record: Record, found: Counter[str], is_learnt_from: bool = True
    ) -> Record | Reject:
        """Return the record, perhaps masked, or the Reject it becomes.

        found: counts findings of patients' data by kind.   Evaluation items are not sought in what
        is not learnt from.
        """
        if self.patients_data != OFF:
            judged = without_patients(record, self.patients_data, found)
            if isinstance(judged, Reject):
                return judged
            record = judged
        if is_learnt_from and self.gate is not None and self.contamination is not None:
            matches = self.gate.matches(record)
            self.contamination.add(matches)
            if matches:
                return contaminated(record, matches)
        return record


def without_patients(record: Record, mode: str, found: Counter[str]) -> Record | Reject:
    """Return the record, perhaps masked, or the Reject it becomes.

    mode: REPORT, MASK or DROP.   found: counts findings of patients' data by kind.
    """
    from medtune.data.privacy.scanner import scan_record  # its library loads slowly

    kinds = scan_record(record)
    found.update(kinds)
    if not kinds or mode == REPORT:
        return record
    if mode == DROP:
        message = f"expected no patients' data, found {', '.join(sorted(kinds))}; remove it."
        return Reject(record.source, PATIENTS_DATA, message)
    masked = masked_record(record)
    if isinstance(masked, PreferencePair) and masked.chosen == masked.rejected:
        message = "with patients' data masked, the chosen answer equals the rejected one."
        return Reject(record.source, EQUAL_WHEN_MASKED, message)
    return masked


def gate_of(arguments: ScreeningArguments) -> ContaminationGate | None:
    """Return the gate for the evaluation files, None without any."""
    if not arguments.eval_files:
        return None
    settings = GateSettings(max_contaminated_percentage=arguments.max_contaminated_percentage)
    return ContaminationGate.from_files(arguments.eval_files, settings)


def contaminated(record: Record, matches: list[Match]) -> Reject:
    """Return the Reject of a record that holds evaluation items."""
    message = f"holds the evaluation item at {matches[0].eval_source} ({MATCHES_FILE})."
    return Reject(record.source, CONTAMINATED, message)


def screen_rows(data: Loaded[RecordT], arguments: ScreeningArguments) -> ContaminationReport | None:
    """Leave out the rows of a stage that hold what they may not, or mask it.

    Raises DataError if more rows than are allowed hold an evaluation item, or no others are left.
    """
    if not arguments.eval_files and arguments.patients_data == OFF:
        return None
    screen = Screen(arguments)
    for place, record in data.records():
        found = data.patients_data.setdefault(data.file_of(place), Counter())
        judged = screen.judge(record, found, bool(data.part_of[place] != VALIDATION))
        if isinstance(judged, Reject):
            data.leave_out(place, judged)
    for kind, count in sum(data.patients_data.values(), Counter[str]()).most_common():
        logger.warning("patients' data: %s of %s (%s)", f"{count:,}", kind, arguments.patients_data)
    if arguments.patients_data == MASK:
        data.read = partial(read_masked, read=data.read)
    if screen.contamination is not None:
        remedy = "prepare_data.py with the same --eval_files lists them all and leaves them out"
        screen.contamination.check(remedy)
    check_parts(data)
    return screen.contamination


def read_masked(path: Path, read: Reader[RecordT]) -> Iterator[RecordT | Reject]:
    """Yield what `read` does, with patients' data masked."""
    for item in read(path):
        yield item if isinstance(item, Reject) else masked_record(item)


def masked_record(record: Any) -> Any:
    """Return the record with patients' data masked; its library loads slowly, so only here."""
    from medtune.data.privacy.scanner import mask_record

    return mask_record(record)
