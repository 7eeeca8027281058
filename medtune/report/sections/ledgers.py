"""Where every row and token of each stage went, and the cards of prepared data."""

from pathlib import Path

from medtune.lineage.chain import locate
from medtune.report.blocks import Block, Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.documents import Document, read_document
from medtune.report.runs import Run
from medtune.report.texts import Words, count, number, say

LEDGER_FILE, REPORT_FILE, CARD_FILE = "ledger.json", "report.json", "card.html"
ROWS = (
    ("rows", "read"),
    ("rows", "train"),
    ("rows", "validation"),
    ("rows", "mixed"),
    ("rows", "not_sampled"),
    ("training_rows", "train"),
    ("tokens", "train", "kept"),
    ("tokens", "train", "truncated"),
    ("tokens", "train", "supervised"),
    ("tokens", "validation", "supervised"),
    ("epoch", "rows"),
    ("epoch", "tokens"),
)
MIXED = ("stage", "folder", "percent", "rows", "tokens", "passes")
CARD = ("folder", "read", "kept", "rejected", "train", "validation", "test")


def build_ledgers(chain: Chain) -> Section:
    """Return what each stage read, left out and trained on."""
    title = say("section.data")
    ledgers = [(run, run.read(LEDGER_FILE)) for run in chain.stages]
    ledgers = [(run, ledger) for run, ledger in ledgers if ledger.value]
    if not ledgers:
        return Section("data", title, [Note(say("ledger.none"))])
    columns = [say("ledger.what"), *(run.title for run, _ in ledgers)]
    rows = [
        [text_cell(say("ledger." + "_".join(keys)))]
        + [Cell(count(ledger.number(*keys))) for _, ledger in ledgers]
        for keys in ROWS
    ]
    blocks: list[Block] = [Table(say("ledger.caption"), columns, rows)]
    rejected = table_of_reasons(columns, [ledger for _, ledger in ledgers])
    blocks.append(rejected if rejected.rows else Note(say("ledger.no_rejects")))
    mixed = [row for run, ledger in ledgers for row in rows_of_mix(run, ledger)]
    if mixed:
        blocks.append(Table(say("mix.caption"), [say(f"mix.{name}") for name in MIXED], mixed))
    cards = [row for run in chain.stages for row in rows_of_cards(run)]
    if cards:
        blocks.append(Table(say("card.caption"), [say(f"card.{name}") for name in CARD], cards))
    return Section("data", title, blocks)


def table_of_reasons(columns: list[Words], ledgers: list[Document]) -> Table:
    """Return the rejected rows of each stage by reason; no rows where all were kept."""
    rejected = [ledger.counts("rows", "rejected") for ledger in ledgers]
    reasons = sorted({reason for counts in rejected for reason in counts})
    rows = [
        [text_cell(reason), *(Cell(count(counts.get(reason, 0))) for counts in rejected)]
        for reason in reasons
    ]
    return Table(say("ledger.rejected"), [say("ledger.reason"), *columns[1:]], rows)


def rows_of_mix(run: Run, ledger: Document) -> list[list[Cell]]:
    """Return a row for each folder that a stage mixed in."""
    return [
        [
            text_cell(run.title),
            text_cell(folder),
            *(
                Cell(number(ledger.number("epoch", "mix", folder, key)))
                for key in ("percent", "rows", "tokens", "passes")
            ),
        ]
        for folder in ledger.mapping("epoch", "mix")
    ]


def rows_of_cards(run: Run) -> list[list[Cell]]:
    """Return a row for each folder of prepare_data.py that a stage took its data from."""
    folders = dict.fromkeys(str(Path(path).parent) for path in run.record.data)
    rows = []
    for folder in folders:
        place = locate(folder, run.record.output)
        if place is None or not (place / CARD_FILE).is_file():
            continue
        report = read_document(place / REPORT_FILE)
        counts = [report.number("rows", "read"), report.number("rows", "kept")]
        counts.append(sum(report.counts("rows", "rejected").values()))
        counts += [report.number("parts", part) for part in ("train", "validation", "test")]
        rows.append([text_cell(folder), *(Cell(count(value)) for value in counts)])
    return rows
