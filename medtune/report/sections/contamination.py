"""Which evaluation items were found in training data, and what was done about it."""

from itertools import islice

from medtune.report.blocks import Block, Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.documents import Document
from medtune.report.runs import Run
from medtune.report.sections.ledgers import LEDGER_FILE
from medtune.report.texts import Words, count, say

MATCHES_FILE = "matches.jsonl"
MAX_LISTED = 20
COUNTS = ("items", "rows_found", "training_rows_question", "training_rows_overlap")
PLACES = ("file", "line", "eval_file", "eval_line", "kind", "score")


def build_contamination(chain: Chain) -> Section:
    """Return what each stage that was given evaluation files found of them in its data."""
    title = say("section.contamination")
    blocks: list[Block] = []
    unchecked = []
    for run in chain.stages:
        ledger = run.read(LEDGER_FILE)
        if ledger.mapping("contamination"):
            blocks += blocks_of(run, ledger)
        else:
            unchecked.append(run.title)
    blocks += [Note(say("contamination.unchecked", stage=name), "warning") for name in unchecked]
    return Section("contamination", title, blocks or [Note(say("contamination.none"))])


def blocks_of(run: Run, ledger: Document) -> list[Block]:
    """Return what one stage found: in all, for each evaluation file, and where."""
    where = ("contamination", "evaluation_files")
    num = ledger.number("contamination", "rows_contaminated") or 0
    checked = ledger.number("contamination", "rows_checked")
    found = say("contamination.found", stage=run.title, num=count(num), checked=count(checked))
    rows = [
        [text_cell(path), *(Cell(count(ledger.number(*where, path, name))) for name in COUNTS)]
        for path in ledger.mapping(*where)
    ]
    columns: list[Words] = [say(f"contamination.{name}") for name in ("eval_file", *COUNTS)]
    blocks: list[Block] = [
        Note(found, "warning" if num else ""),
        Table(say("contamination.caption", stage=run.title), columns, rows),
    ]
    matches = [row for _, row in islice(run.lines(MATCHES_FILE), MAX_LISTED)]
    if matches:
        cells = [[text_cell(str(row.get(name, ""))) for name in PLACES] for row in matches]
        names: list[Words] = [say(f"contamination.{name}") for name in PLACES]
        caption = say("contamination.matches", stage=run.title, num=len(matches))
        blocks.append(Table(caption, names, cells, is_folded=True))
    return blocks
