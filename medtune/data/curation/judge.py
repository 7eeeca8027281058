"""Whether a record goes into the sets: repetition, patients' data, evaluation items."""

from collections import Counter
from collections.abc import Iterable, Iterator

from medtune.arguments import OFF
from medtune.data.curation.options import PrepareArguments
from medtune.data.hygiene.rules import Checked, HygieneOptions, check_records
from medtune.data.parts import Reject
from medtune.data.records import Record
from medtune.data.screening import Screen

DUPLICATE, NEAR = "exact_duplicate", "near_duplicate"


class Judge:
    """Decides on records in the order in which they were read before.

    screen: those on one record alone.   hygiene: those by rule, which see all records.
    """

    def __init__(self, arguments: PrepareArguments, records: Iterable[Record]) -> None:
        """Read all records once; raises what reading raises."""
        self.screen = Screen(arguments)
        self.hygiene: Checked = check_records(records, hygiene_options(arguments))
        self._kept: Iterator[bool] = iter(self.hygiene.is_kept.tolist())
        self._dropped = self.hygiene.rejects()

    def judge(self, record: Record, found: Counter[str]) -> Record | Reject:
        """Return the next record, perhaps masked, or the Reject it becomes.

        found: counts findings of patients' data by kind.
        """
        return self.screen.judge(record, found) if next(self._kept) else next(self._dropped)


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
