"""A page about a prepared data set: its sources, what was left out, how long its rows are."""

import json
from collections import Counter
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

CARD, LENGTHS = "card.html", "lengths.png"
NUM_EXAMPLES = 3
STYLE = """
body { font: 16px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color-scheme: light dark; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884;
         overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; background: white; }
pre { white-space: pre-wrap; border-left: 3px solid #8886; padding-left: 1rem; }
"""


def write_card(folder: Path, report: dict[str, Any], lengths: dict[str, Counter[int]]) -> None:
    """Write CARD and LENGTHS into a folder.

    report: what report.json holds.   lengths: of each part, rows by their number of characters.
    """
    draw_lengths(folder / LENGTHS, lengths)
    files = [
        [f["path"], f["format"], f["encoding"] or "", f["rows_read"], f["rows_kept"]]
        for f in report["files"]
    ]
    parts = [[part, count, *quantiles(lengths[part])] for part, count in report["parts"].items()]
    rejected = sorted(report["rows"]["rejected"].items(), key=lambda item: -item[1])
    options = [[name, value] for name, value in report["options"].items()]
    body = [
        "<h1>Data card</h1>",
        table(["set", "rows", "shortest", "median", "longest (characters)"], parts),
        f'<img src="{LENGTHS}" alt="Histogram of the rows by their number of characters">',
        "<h2>Sources</h2>",
        table(["file", "format", "encoding", "read", "kept"], files),
        f"<h2>Left out: {sum(count for _, count in rejected):,} rows</h2>",
        table(["reason", "rows"], rejected) if rejected else "<p>None.</p>",
        "<h2>Options</h2>",
        table(["option", "value"], options),
        "<h2>First rows</h2>",
        *(f"<pre>{escape(text)}</pre>" for text in first_rows(folder / "train.jsonl")),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Data card</title><style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )
    (folder / CARD).write_text(page, encoding="utf-8")


def table(header: list[str], rows: Any) -> str:
    """Return an HTML table; numbers stand on the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = [f"<tr>{''.join(map(cell, row))}</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def cell(value: Any) -> str:
    """Return one cell of a table."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape(str(value))}</td>"


def quantiles(lengths: Counter[int]) -> list[int]:
    """Return the shortest, the median and the longest length; zeros if there is none."""
    ordered, total, passed = sorted(lengths), lengths.total(), 0
    for length in ordered:
        passed += lengths[length]
        if 2 * passed >= total:
            return [ordered[0], length, ordered[-1]]
    return [0, 0, 0]


def first_rows(path: Path) -> list[str]:
    """Return the first rows of a set, indented."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, NUM_EXAMPLES)]
    return [json.dumps(row, ensure_ascii=False, indent=1) for row in rows]


def draw_lengths(path: Path, lengths: dict[str, Counter[int]]) -> None:
    """Draw the rows of each part by their number of characters, on a logarithmic axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    longest = max((max(counts) for counts in lengths.values() if counts), default=1)
    edges = [2 ** (step / 2) for step in range(2 * max(longest, 2).bit_length() + 1)]
    for part, counts in lengths.items():
        if counts:
            values, weights = list(counts), list(counts.values())
            axes.hist(values, edges, weights=weights, label=part, histtype="step", linewidth=2)
    axes.set(xscale="log", yscale="log", xlabel="characters in a row", ylabel="rows")
    axes.grid(alpha=0.3)
    if any(lengths.values()):
        axes.legend()
    figure.savefig(path, dpi=120)
