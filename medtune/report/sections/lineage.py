"""What each model was made from: a drawing, and the hashes of models and data."""

from pathlib import Path

from medtune.common.files import sha256_of_file
from medtune.lineage.chain import find_links
from medtune.lineage.records import Reference, find_record
from medtune.lineage.report import describe_code, describe_options
from medtune.lineage.uses import DataUse, find_uses
from medtune.lineage.verification import SHOWN
from medtune.report.blocks import (
    Block,
    Bullets,
    Cell,
    Figure,
    Note,
    Section,
    Table,
    exact_cell,
    text_cell,
)
from medtune.report.chain import Chain
from medtune.report.lineage_drawing import Node, draw_chain
from medtune.report.runs import Run
from medtune.report.texts import NOTHING, Text, Words, count, duration, join, say

ADAPTER_FILE = "adapter_config.json"


def build_lineage(chain: Chain) -> Section:
    """Return where each model of a chain came from."""
    title = say("section.lineage")
    if not chain.runs:
        return Section("lineage", title, [Note(say("lineage.none"))])
    columns: list[Words] = [
        say(f"lineage.{name}")
        for name in ("output", "work", "made_from", "steps", "seconds", "finished", "hash")
    ]
    blocks: list[Block] = [
        Figure(say("lineage.figure"), draw_chain(find_nodes(chain.runs), say("section.lineage"))),
        Table(say("lineage.caption"), columns, [row_of(run) for run in chain.runs]),
    ]
    changed = [note for one in chain.evaluations for note in find_changed(one.folder)]
    blocks += [Bullets(say("lineage.changed"), list(changed))] if changed else []
    for run in chain.stages:
        blocks += [table_of_data(run), Note(describe_options_of(run))]
    return Section("lineage", title, blocks)


def find_nodes(runs: list[Run]) -> list[Node]:
    """Return the boxes of the drawing: what the chain began with, then each run."""
    nodes: list[Node] = []
    position: dict[str, int] = {}
    for run in runs:
        made_from = []
        for link in find_links(run.record):
            made = link.read()
            key = str(made.file.resolve()) if made else link.reference.path
            if key not in position:
                position[key] = len(nodes)
                nodes.append(node_of_base(link.reference))
            made_from.append(position[key])
        is_adapter = ADAPTER_FILE in run.record.outputs or not run.record.is_finished
        below = join([run.title, short_hash(run)], " · ") if run.record.outputs else run.title
        position[str(run.record.file.resolve())] = len(nodes)
        name = run.record.output.name
        nodes.append(Node(name, below, is_adapter, run.record.is_finished, made_from))
    return nodes


def node_of_base(reference: Reference) -> Node:
    """Return the box of a model that was made elsewhere."""
    sha256 = reference.sha256[:SHOWN] if reference.sha256 else NOTHING
    below = join([say("lineage.base"), sha256], " · ")
    return Node(Path(reference.path).name, below, reference.role == "adapter", True, [])


def short_hash(run: Run) -> str:
    """Return how others name the weights of a run, shortened."""
    return run.record.weights[:SHOWN]


def row_of(run: Run) -> list[Cell]:
    """Return the row of a run."""
    record, complete = run.record, run.complete
    made_from = ", ".join(
        f"{one.path} ({one.sha256[:SHOWN] if one.sha256 else NOTHING})"
        for one in record.references()
    )
    return [
        text_cell(str(record.output)),
        text_cell(run.work),
        text_cell(made_from),
        Cell(count(complete.number("steps"))),
        Cell(duration(complete.number("seconds"))),
        exact_cell(shorten_time(complete.text("finished")) or say("lineage.unfinished")),
        exact_cell(short_hash(run) if record.outputs else NOTHING),
    ]


def shorten_time(time: str | None) -> str | None:
    """Return a time without its zone, which is UTC. Example: 2026-01-31 12:00:00"""
    return time and time.replace("T", " ").removesuffix("+00:00")


def table_of_data(run: Run) -> Table:
    """Return the data files of a stage."""
    columns: list[Words] = [
        say(f"data.{name}") for name in ("file", "used_for", "read", "trained", "tokens", "hash")
    ]
    rows = [row_of_use(use) for use in find_uses(run.record)]
    caption = say("data.caption", stage=run.title, num=len(rows))
    return Table(caption, columns, rows, is_folded=True)


def row_of_use(use: DataUse) -> list[Cell]:
    """Return the row of a data file."""
    used_for = join([say(f"use.{word}") for word in use.used_for.split(" and ")], " + ")
    counts = [Cell(count(n)) for n in (use.rows_read, use.rows_trained, use.tokens)]
    return [text_cell(use.path), text_cell(used_for), *counts, exact_cell(use.sha256[:SHOWN])]


def describe_options_of(run: Run) -> Text:
    """Return the options of a stage that matter most, and the code that ran."""
    record = run.record
    about = {
        "stage": record.stage, "options": record.options,
        "code": record.code, "packages": record.packages,
    }  # fmt: skip
    return say(
        "lineage.options",
        stage=run.title,
        options=describe_options(about),
        code=describe_code(about) if record.code else NOTHING,
    )


def find_changed(evaluation: Path) -> list[Text]:
    """Return the models that an evaluation measured and that were made anew since."""
    measured = find_record(evaluation)
    changed = []
    for link in find_links(measured) if measured else []:
        made = link.read()
        if made is not None and sha256_of_file(made.file) != link.reference.parent:
            changed.append(
                say("lineage.changed_one", evaluation=str(evaluation), path=link.reference.path)
            )
    return changed
