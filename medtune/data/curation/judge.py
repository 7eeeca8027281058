"""Whether a record goes into the sets: repetition, patients' data, evaluation items."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from medtune.data.contamination.gate import ContaminationGate, GateSettings
from medtune.data.contamination.report import MATCHES_FILE, Match
from medtune.data.curation.options import OFF, PrepareArguments
from medtune.data.hygiene.rules import Checked, HygieneOptions, check_records
from medtune.data.parts import Reject
from medtune.data.privacy.scanner import Mode
from medtune.data.records import PreferencePair, Record

DUPLICATE, NEAR = "exact_duplicate", "near_duplicate"


class Judge:
    """Decides on records in the order in which they were read before.

    hygiene: the decisions by rule.   contamination: None without evaluation files.
    """

    def __init__(self, arguments: PrepareArguments, records: Iterable[Record]) -> None:
        """Read all records once; raises what reading raises."""
        self.arguments = arguments
        self.gate = gate_of(arguments)
        self.contamination = self.gate.new_report() if self.gate else None
        self.hygiene: Checked = check_records(records, hygiene_options(arguments))
        self._kept: Iterator[bool] = iter(self.hygiene.is_kept.tolist())
        self._dropped = self.hygiene.rejects()

    def judge(self, record: Record, found: Counter[str]) -> Record | Reject:
        """Return the next record, perhaps masked, or the Reject it becomes.

        found: counts findings of patients' data by kind.
        """
        if not next(self._kept):
            return next(self._dropped)
        if self.arguments.patients_data != OFF:
            judged = without_patients(record, self.arguments.patients_data, found)
            if isinstance(judged, Reject):
                return judged
            record = judged
        if self.gate is not None and self.contamination is not None:
            matches = self.gate.matches(record)
            self.contamination.add(matches)
            if matches:
                return contaminated(record, matches)
        return record


def without_patients(record: Record, mode: str, found: Counter[str]) -> Record | Reject:
    """Return the record, perhaps masked, or the Reject it becomes.

    mode: a Mode.   found: counts findings of patients' data by kind.
    """
    from medtune.data.privacy.scanner import (  # its library loads slowly
        mask_record,
        scan_record,
    )

    kinds = scan_record(record)
    found.update(kinds)
    if not kinds or mode == Mode.REPORT:
        return record
    if mode == Mode.DROP:
        message = f"expected no patients' data, found {', '.join(sorted(kinds))}; remove it."
        return Reject(record.source, "patients_data", message)
    masked: Any = mask_record(record)  # type: ignore[type-var]
    if isinstance(masked, PreferencePair) and masked.chosen == masked.rejected:
        message = "with patients' data masked, the chosen answer equals the rejected one."
        return Reject(record.source, "equal_when_masked", message)
    return masked


def gate_of(arguments: PrepareArguments) -> ContaminationGate | None:
    """Return the gate for the evaluation files, None without any."""
    if not arguments.eval_files:
        return None
    settings = GateSettings(max_contaminated_percentage=arguments.max_contaminated_percentage)
    return ContaminationGate.from_files(arguments.eval_files, settings)


def contaminated(record: Record, matches: list[Match]) -> Reject:
    """Return the Reject of a record that holds evaluation items."""
    message = f"holds the evaluation item at {matches[0].eval_source} ({MATCHES_FILE})."
    return Reject(record.source, "contaminated", message)


def hygiene_options(arguments: PrepareArguments) -> HygieneOptions:
    """Return the rules with what the user changed of them."""
    drop, report = list(HygieneOptions.drop), list(HygieneOptions.report)
    if arguments.keep_duplicates:
        drop.remove(DUPLICATE)
        report.append(DUPLICATE)
    if arguments.near_duplicates != OFF:
        (drop if arguments.near_duplicates == "drop" else report).append(NEAR)
    return HygieneOptions(
        drop=tuple(drop),
        report=tuple(report),
        max_characters=arguments.max_characters,
        seed=arguments.seed,
    )
