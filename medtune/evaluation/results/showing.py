"""The numbers of an evaluation in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medtune.evaluation.results.comparison import is_significant, is_worse

WIDTH = 120  # columns of a table that goes to a file


def print_results(results: Mapping[str, Any]) -> None:
    """Print one line per metric: value, 95 % interval, chance, number of items."""
    table = Table(title=results["model"]["path"])
    table.add_column("benchmark")
    table.add_column("metric")
    for name in ("value", "95 % interval", "chance", "items"):
        table.add_column(name, justify="right")
    for task, found in results["tasks"].items():
        for number, (name, about) in enumerate(found["metrics"].items()):
            table.add_row(
                task if number == 0 else "",
                name + " (less is better)" * (about["higher_is_better"] is False),
                show(about["value"], about["unit"]),
                escape(span(about)),
                show(about["chance"], about["unit"]) if about["chance"] is not None else "",
                f"{about['num_items']:,}" if number == 0 else "",
            )
        for text, name in (("could not be read", "malformed"), ("prompts cut", "truncated")):
            if found[name]:
                table.add_row("", f"[yellow]{text}: {found[name]:,}[/yellow]")
    print_wide(table)


def print_comparison(baseline: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one line per metric that both evaluations have: before, after, the difference."""
    table = Table(title=f"compared with {baseline}, item by item")
    table.add_column("benchmark")
    table.add_column("metric")
    for name in ("before", "after", "difference", "95 % interval", "p"):
        table.add_column(name, justify="right")
    for row in rows:
        unit = row["unit"]
        is_judged = is_significant(row) and row["higher_is_better"] is not None
        verdict = "worse" if is_worse(row) else "better" if is_judged else ""
        colour = {"worse": "red", "better": "green"}.get(verdict, "default")
        table.add_row(
            row["task"],
            f"{row['metric']} ({row['num_items']:,})",
            show(row["before"], unit),
            show(row["after"], unit),
            f"[{colour}]{show(row['delta'], unit)} {verdict}[/{colour}]",
            escape(span(row)),
            "-" if row["p_value"] is None else f"{row['p_value']:.3f}",
        )
    print_wide(table)


def print_wide(table: Table) -> None:
    """Print a table; a file is as wide as the table needs."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)


def span(row: Mapping[str, Any]) -> str:
    """Return an interval as people read it."""
    if row["low"] is None:
        return "-"
    return f"[{show(row['low'], row['unit'])}, {show(row['high'], row['unit'])}]"


def show(value: float | None, unit: str) -> str:
    """Return a number as people read it: shares in per cent."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if unit == "fraction" else f"{value:,.3f}"
