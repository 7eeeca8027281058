"""The chain that a report shows: its evaluations, and the runs that made its models."""

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from medtune.common.errors import ConfigError
from medtune.lineage.chain import find_links, walk
from medtune.lineage.records import EVALUATION, Record, find_record
from medtune.report.comparing import Step, compare_steps
from medtune.report.evaluations import STAGES, Evaluation, read_evaluation
from medtune.report.naming import find_roots, with_stages
from medtune.report.options import ReportArguments
from medtune.report.runs import SHORT_NAMES, Run
from medtune.report.texts import Text, label, say


@dataclass(frozen=True)
class Chain:
    """Everything there is to show.

    evaluations: in the order of the stages.   steps: what changed from each to the next.
    overall: from the first to the last, None for fewer than three.
    runs: what was made first comes first.   missing: what a whole chain would have.
    """

    name: str
    evaluations: list[Evaluation]
    steps: list[Step]
    overall: Step | None
    runs: list[Run]
    missing: list[Text]

    @property
    def stages(self) -> list[Run]:
        """The runs that trained."""
        return [run for run in self.runs if run.is_training]


def find_chain(arguments: ReportArguments) -> Chain:
    """Return the chain that a user names.

    Raises ConfigError if there is nothing, CheckpointError or DataError for damaged files.
    """
    missing: list[Text] = []
    if arguments.evaluations:
        folders = [Path(folder) for folder in arguments.evaluations]
        name = Path(arguments.page).stem.removesuffix("-report")
    else:
        name = str(arguments.profile)
        places = [Path(arguments.outputs) / f"{name}-{stage}-evaluation" for stage in STAGES]
        folders = [place for place in places if place.exists()]
    found = {folder: read_evaluation(folder) for folder in folders}
    missing += [say("missing.results", path=str(f)) for f, one in found.items() if one is None]
    evaluations = with_stages([one for one in found.values() if one is not None])
    roots = [record for one in evaluations for record in find_roots(one)]
    if not arguments.evaluations:
        roots += find_named(Path(arguments.outputs), name)
    runs = [Run(record) for record in in_order(roots)]
    if not runs and not evaluations:
        raise ConfigError(
            f"--outputs {arguments.outputs} --profile {name}: expected {name}-pt-v1 or another "
            "folder of run_all.sh, found none. Run it first, or name other folders."
        )
    if not arguments.evaluations:  # who names them wants no other
        missing += find_missing(evaluations, runs)
    missing += find_unfinished(evaluations, runs)
    steps, overall = compare_steps(evaluations)
    return Chain(name, evaluations, steps, overall, runs, missing)


def find_named(outputs: Path, profile: str) -> Iterator[Record]:
    """Yield the lineages below a folder that have the names of run_all.sh."""
    for stage in STAGES[1:]:
        for suffix in ("v1", "merged"):
            record = find_record(outputs / f"{profile}-{stage}-{suffix}")
            if record is not None:
                yield record


def in_order(roots: list[Record]) -> list[Record]:
    """Return these records and all that they rest on, each once, bases first.

    Raises CheckpointError for a chain that leads back to itself.
    """
    records = {one.file.resolve(): one for root in roots for one in walk(root)}
    rests_on = {
        file: [made.file.resolve() for link in find_links(record) if (made := link.read())]
        for file, record in records.items()
    }
    return [
        records[file]
        for file in TopologicalSorter(rests_on).static_order()
        if records[file].stage != EVALUATION
    ]


def find_missing(evaluations: list[Evaluation], runs: list[Run]) -> list[Text]:
    """Return what a whole chain would have and this one has not."""
    trained = {SHORT_NAMES.get(run.record.stage) for run in runs}
    measured = {one.name for one in evaluations}
    missing = [
        say("missing.stage", stage=label("stage", s)) for s in STAGES[1:] if s not in trained
    ]
    if measured & set(STAGES) or not measured:
        missing += [
            say("missing.evaluation", model=label("model", stage))
            for stage in STAGES
            if stage not in measured
        ]
    return missing


def find_unfinished(evaluations: list[Evaluation], runs: list[Run]) -> list[Text]:
    """Return which runs and evaluations were begun and not ended."""
    folders = [run.record.output for run in runs if not run.record.is_finished]
    folders += [one.folder for one in evaluations if not one.is_finished]
    return [say("missing.end", path=str(folder)) for folder in folders]
