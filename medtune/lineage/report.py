"""A chain as a tree, and tables of data and of models, for the terminal or as JSON."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from medtune.common.files import read_object
from medtune.lineage.chain import check_no_cycle, find_links, walk
from medtune.lineage.records import Record
from medtune.lineage.uses import DataUse, Sighting, find_uses
from medtune.lineage.verification import SHOWN

KEY_OPTIONS = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "num_processes", "use_peft", "lora_rank", "lora_alpha",
    "max_length", "block_size", "beta", "mix", "seed", "max_new_tokens",
)  # fmt: skip
PRETRAINING = "pretraining"
WIDE = 1000  # columns where there is no terminal: a program reads it, so no line is broken


def console() -> Console:
    """Return a console that breaks no line and colours nothing unless it is a terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def describe(
    record: Record, above: tuple[Path, ...] = (), seen: set[Path] | None = None
) -> dict[str, Any]:
    """Return a record and all that it rests on as nested JSON-ready values, each record once.

    above: the lineage files on the way here; seen: all that were described, which are then named
    with `is_above` only.   Raises CheckpointError for a chain without an end.
    """
    seen = set() if seen is None else seen
    file = record.file.resolve()
    check_no_cycle(file, above)
    value: dict[str, Any] = {"stage": record.stage, "path": str(record.output)}
    if file in seen:
        return {**value, "is_above": True}
    seen.add(file)
    complete = record.complete or {}
    made_from = []
    for link in find_links(record):
        made = link.read()
        end = "hub name" if link.reference.sha256 is None else "not there"
        made_from.append(
            {
                **asdict(link.reference),
                "found": str(link.place) if link.place else end,
                "made": describe(made, (*above, file), seen) if made else None,
            }
        )
    return {
        **value,
        "is_above": False,
        "is_finished": record.is_finished,
        **{name: complete.get(name) for name in ("finished", "steps", "seconds")},
        "code": record.code,
        "packages": record.packages,
        "options": record.options,
        "changes": record.changes,
        "data": [asdict(use) for use in find_uses(record)],
        "made_from": made_from,
    }


def build_tree(value: dict[str, Any], role: str = "") -> Tree:
    """Return what `describe` gives as a tree."""
    name = f"{role}: {value['path']}" if role else value["path"]
    if value["is_above"]:
        return Tree(Text(f"{name}  [shown above]"))
    tree = Tree(Text(f"{name}  [{describe_run(value)}]"))
    if value["options"]:
        tree.add(Text("options: " + describe_options(value)))
    for change in value["changes"]:
        tree.add(Text(f"continued with another {change}"))
    if value["code"]:
        tree.add(Text("code: " + describe_code(value)))
    for use in value["data"]:
        tree.add(Text(f"data: {describe_use(DataUse(**use))}"))
    for one in value["made_from"]:
        if one["made"]:
            tree.children.append(build_tree(one["made"], one["role"]))
        else:
            sha256 = f", sha256 {one['sha256'][:SHOWN]}" if one["sha256"] else ""
            place = "" if one["found"] == one["path"] else f" ({one['found']})"
            tree.add(Text(f"{one['role']}: {one['path']}{sha256}{place}"))
    return tree


def describe_run(value: dict[str, Any]) -> str:
    """Return the stage of a record, when it was finished and how long it took."""
    parts = [value["stage"]]
    parts += [f"finished {value['finished']}"] if value["finished"] else []
    parts += [f"{value['steps']:,} steps"] if value["steps"] is not None else []
    parts += [f"{value['seconds']:,} s"] if value["seconds"] is not None else []
    parts += [] if value["is_finished"] else ["UNFINISHED"]
    return ", ".join(parts)


def describe_options(value: dict[str, Any]) -> str:
    """Return the options that matter most, without those that the stage does not read."""
    unread = {"max_length"} if value["stage"] == PRETRAINING else {"block_size"}
    options = value["options"]
    unread |= {"max_steps"} if options.get("max_steps") == -1 else set()
    shown = [
        f"{name} {options[name]}"
        for name in KEY_OPTIONS
        if name not in unread and options.get(name) is not None and options[name] != []
    ]
    return ", ".join(shown)


def describe_code(value: dict[str, Any]) -> str:
    """Return medtune's version and commit, and the libraries that matter most."""
    code, packages = value["code"], value["packages"]
    commit = f" at {str(code['commit'])[:SHOWN]}" if code.get("commit") else ""
    # Of a commit with local changes, the sign that says so must not be cut off.
    changed = "+" if str(code.get("commit")).endswith("+") else ""
    names = [
        f"{name} {packages[name]}"
        for name in ("torch", "transformers", "trl", "peft")
        if name in packages
    ]
    return f"medtune {code.get('medtune')}{commit}{changed}" + "".join(f", {n}" for n in names)


def describe_use(use: DataUse) -> str:
    """Return a data file in a line: path, rows, what for, hash."""
    counts = [use.used_for]
    counts += [f"{use.rows_read:,} rows read"] if use.rows_read is not None else []
    if use.rows_trained:
        counts.append(f"{use.rows_trained:,} trained on, {use.tokens:,} tokens an epoch")
    return f"{use.path}  [{', '.join(counts)}]  sha256 {use.sha256[:SHOWN]}"


def print_tree(value: dict[str, Any]) -> None:
    """Print a tree of what `describe` gives."""
    console().print(build_tree(value))


def print_uses(record: Record) -> None:
    """Print every data file of the chain, then what each stage trained on in all."""
    table = Table(title=Text(f"the data of {record.output}"), box=None, title_justify="left")
    for name in ("made", "file", "used for"):
        table.add_column(name, overflow="fold")
    for name in ("rows read", "trained on", "tokens an epoch", "sha256"):
        table.add_column(name, justify="right", no_wrap=True)
    totals = []
    for one in walk(record):
        for use in find_uses(one):
            words = [use.output, use.path, use.used_for]
            words += [number(n) for n in (use.rows_read, use.rows_trained, use.tokens)]
            table.add_row(*map(Text, [*words, use.sha256[:SHOWN]]))  # no word of them is markup
        totals += describe_totals(one)
    console().print(table)
    for line in totals:
        console().print(Text(line))


def describe_totals(record: Record) -> list[str]:
    """Return what a stage drew of each folder that is mixed in, and what it trained on in all."""
    ledger = record.read_ledger()
    lines = [
        f"{record.output}: of {folder}, mixed in, {part['rows']:,} rows and {part['tokens']:,} "
        f"tokens an epoch ({part['percent']:g} % asked for)"
        for folder, part in ledger.get("epoch", {}).get("mix", {}).items()
    ]
    results = record.folder / "train_results.json"
    trained = read_object(results) if ledger and results.exists() else {}
    if {"num_tokens", "steps"} <= trained.keys():
        lines.append(
            f"{record.output}: {trained['num_tokens']:,} tokens trained on in "
            f"{trained['steps']:,} steps"
        )
    return lines


def number(value: int | None) -> str:
    """Return a count for a table; a dash where nobody counted."""
    return "-" if value is None else f"{value:,}"


def print_sightings(found: list[Sighting]) -> None:
    """Print who used a file, then who descends from a model that learnt from it."""
    for seen in found:
        unfinished = "" if seen.record.is_finished else "  UNFINISHED"
        stage = seen.record.stage
        if seen.use is not None:
            line = f"{seen.use.used_for}: {seen.record.output}  [{stage}, as {seen.use.path}]"
        else:
            assert seen.via is not None, "a sighting is direct or through another"
            line = f"through {seen.via.output}: {seen.record.output}  [{stage}]"
        console().print(Text(line + unfinished))
