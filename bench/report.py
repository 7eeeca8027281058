"""The results file as two tables and a chart in docs/performance.md.

python bench/report.py outputs/bench.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
Entry = dict[str, Any]


def main(results: Path, page: Path, picture: Path) -> None:
    """Write the tables between the page's two marks, and the picture."""
    entries = json.loads(results.read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{tables(entries)}\n{END}{after}", encoding="utf-8")
    draw([entry for entry in entries if entry["status"] == "ok"], picture)


def tables(entries: list[Entry]) -> str:
    """Return the Markdown between the marks."""
    chart = "![Times as fast as the other system, by case](performance.png)"
    return "\n\n".join([describe(entries), ratio_table(entries), chart, rate_table(entries)])


def describe(entries: list[Entry]) -> str:
    """Return one sentence a machine state that figures come from."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        at = entry["environment"]
        versions = ", ".join(f"{n} {at[n]}" for n in ("torch", "transformers", "trl", "peft"))
        text = (
            f"{at['time'][:10]}, commit {at['commit'][:12]}{at['commit'][40:]}, {at['threads']} "
            f"threads on {at['cores']} {at['machine']} cores, {versions}"
        )
        found.setdefault(text, []).append(entry["case"])
    if len(found) == 1:
        return f"Measured {next(iter(found))}."
    return "\n".join(f"- {', '.join(names)}: {text}." for text, names in found.items())


def ratio_table(entries: list[Entry]) -> str:
    """Return the table of ratios; a case without one says why."""
    lines = [
        "| case | against | times as fast (range) | peak memory | useful work | log-prob. differ |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for entry in entries:
        name, against = entry["case"], entry["baseline"]
        if entry["status"] != "ok":
            reason = entry["reason"].splitlines()[0]
            lines.append(f"| {name} | {against} | {entry['status']}: {reason} | | | |")
            continue
        low, high = entry["ratio_min"], entry["ratio_max"]
        useful = entry["rates"][entry["system"]]["utilisation"]
        gate = entry["gate_max_abs_diff"]
        lines.append(
            f"| {name} | {against} | {entry['ratio_median']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {entry['memory_ratio']:.2f}x | {100 * useful:.0f} % "
            f"| {'not the same work' if gate is None else f'{gate:.0e}'} |"
        )
    return "\n".join(lines)


def rate_table(entries: list[Entry]) -> str:
    """Return the table of absolute figures, two lines a case."""
    lines = [
        "| case | system | seconds | real tokens/s | trained tokens/s | rows/s | peak MB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for entry in entries:
        for system, rates in entry.get("rates", {}).items():
            lines.append(
                f"| {entry['case']} | {system} | {rates['seconds']:.1f} "
                f"| {rates['real_tokens_per_second']:,.0f} "
                f"| {rates['trained_tokens_per_second']:,.0f} "
                f"| {rates['rows_per_second']:.2f} | {rates['memory_peak_mb']:,.0f} |"
            )
    return "\n".join(lines)


def draw(entries: list[Entry], picture: Path) -> None:
    """Draw the ratios as bars with their spread; 1 is the baseline's speed."""
    figure = Figure(figsize=(8, 1.2 + 0.32 * len(entries)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, entry in enumerate(reversed(entries)):
        ratio, low, high = (entry[f"ratio_{part}"] for part in ("median", "min", "max"))
        colour = "C0" if entry["gate_max_abs_diff"] is not None else "C7"
        axes.barh(row, ratio, xerr=[[ratio - low], [high - ratio]], color=colour, capsize=3)
        axes.text(high + 0.08, row, f"{ratio:.1f}x", va="center")
    axes.set_yticks(range(len(entries)), [label(entry) for entry in reversed(entries)])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, 1.12 * max([1.5, *(entry["ratio_max"] for entry in entries)]))
    axes.set_ylim(-0.6, len(entries) - 0.4)
    axes.set(title="Speed on the same work (1 = the other system)", xlabel="times as fast")
    figure.savefig(picture, dpi=120)


def label(entry: Entry) -> str:
    """Return what stands at a bar."""
    return f"{entry['case'].split('_vs_')[0]} / {entry['baseline']}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected the results file: python bench/report.py outputs/bench.json")
    main(Path(sys.argv[1]), DOCS / "performance.md", DOCS / "performance.png")
