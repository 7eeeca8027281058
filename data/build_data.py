"""Builds the sample data from the tables in data/source.

python data/build_data.py           rewrite every generated file
python data/build_data.py --check   exit 1 if a file on disk differs, and name it
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgen import benchmarks, checks, general, pretrain
from medgen.evalset import build_eval_finetune, build_questions
from medgen.exam import build_exam
from medgen.facts import build_facts
from medgen.finetune import build_finetune
from medgen.reward import build_reward
from medgen.tables import DATA_DIR, load_tables

BEGIN, END = "<!-- counts:begin -->", "<!-- counts:end -->"
PROBES = "eval/safety/probes.jsonl"  # hand-written: counted and checked here, never changed
GENERATED_FOLDERS = ("general", "pretrain", "finetune", "reward", "eval")
Record = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """One generated file: its text and how many items of what unit it holds."""

    text: str
    count: int
    unit: str


def documents_file(documents: list[str]) -> Output:
    """Join documents with one blank line."""
    return Output("\n\n".join(documents) + "\n", len(documents), "documents")


def jsonl_file(records: list[Record], unit: str) -> Output:
    """Write one JSON object a line."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    return Output("".join(lines), len(records), unit)


def json_file(records: list[Record], unit: str) -> Output:
    """Write one JSON list, indented as the benchmarks that come so."""
    return Output(json.dumps(records, ensure_ascii=False, indent=1) + "\n", len(records), unit)


def _flat(groups: dict[str, list[Any]]) -> list[Any]:
    return [item for items in groups.values() for item in items]


def _text_outputs(outputs: dict[str, Output]) -> None:
    tables = load_tables()
    everyday = general.build_general(tables)
    medical = pretrain.build_pretrain(tables)
    checks.check_documents("general", _flat(everyday), 80, 300)
    checks.check_documents("pretrain", _flat(medical.train), 100, 400)
    checks.check_documents("eval/pretrain", _flat(medical.held_out), 100, 400)
    checks.check_no_overlap("pretrain", _flat(medical.train), _flat(medical.held_out))
    for folder, groups in (
        ("general", everyday),
        ("pretrain", medical.train),
        ("eval/pretrain", medical.held_out),
    ):
        for name, documents in groups.items():
            outputs[f"{folder}/{name}.txt"] = documents_file(documents)


def _check_questions(
    train: list[Record],
    pairs: list[Record],
    held: list[Record],
    held_pairs: list[Record],
    asked: list[Record],
) -> None:
    training = checks.human_turns(train) + checks.pair_questions(pairs)
    checks.check_no_overlap("eval/finetune", training, checks.human_turns(held))
    checks.check_no_overlap("eval/reward", training, checks.pair_questions(held_pairs))
    checks.check_no_overlap("quiz and exam", training, [q["question"] for q in asked])
    checks.check_pairs("reward", pairs)
    checks.check_pairs("eval/reward", held_pairs)
    for record in [*train, *held]:
        checks.check_conversation(record)


def _record_outputs(outputs: dict[str, Output]) -> None:
    tables = load_tables()
    facts = build_facts(tables)
    train, held, quiz = build_finetune(facts), build_eval_finetune(facts), build_questions(facts)
    pairs, held_pairs = build_reward(tables, facts)
    exam = build_exam(facts)
    checks.check_exam(exam)
    _check_questions(_flat(train), _flat(pairs), _flat(held), _flat(held_pairs), [*quiz, *exam])
    for folder, groups, unit in (
        ("finetune", train, "conversations"),
        ("reward", pairs, "pairs"),
        ("eval/finetune", held, "conversations"),
        ("eval/reward", held_pairs, "pairs"),
    ):
        for name, records in groups.items():
            outputs[f"{folder}/{name}.jsonl"] = jsonl_file(records, unit)
    outputs["eval/questions.jsonl"] = jsonl_file(quiz, "questions")
    outputs["eval/cmb_exam/medgen.json"] = json_file(exam, "questions")
    cases, rows = benchmarks.build_cases(), benchmarks.build_promptcblue()
    checks.check_promptcblue(rows)
    outputs["eval/cmb_clin/medgen.json"] = json_file(cases, "cases")
    outputs["eval/promptcblue/medgen.jsonl"] = jsonl_file(rows, "rows")
    asked = [*_flat(train), *_flat(held)]
    outputs[PROBES] = _probes_file(
        checks.human_turns(asked) + checks.pair_questions(_flat(pairs) + _flat(held_pairs))
    )


def _probes_file(asked: list[str]) -> Output:
    text = (DATA_DIR / PROBES).read_text(encoding="utf-8")
    probes = [json.loads(line) for line in text.splitlines()]
    checks.check_no_overlap("eval/safety", asked, [probe["question"] for probe in probes])
    return Output(text, len(probes), "probes")


def _counts_table(outputs: dict[str, Output]) -> str:
    lines = ["| file | items | unit | bytes |", "|---|---:|---|---:|"]
    totals: dict[str, tuple[int, int]] = {}
    for path, made in sorted(outputs.items()):
        size = len(made.text.encode("utf-8"))
        lines.append(f"| `{path}` | {made.count} | {made.unit} | {size} |")
        folder = path.rpartition("/")[0]
        count, total = totals.get(folder, (0, 0))
        totals[folder] = (count + made.count, total + size)
    lines += ["", "| folder | items | bytes |", "|---|---:|---:|"]
    lines += [f"| `{f}/` | {count} | {size} |" for f, (count, size) in sorted(totals.items())]
    return "\n".join(lines)


def _readme(outputs: dict[str, Output]) -> str:
    text = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, marker, tail = rest.partition(END)
    if not marker:
        raise ValueError("README.md lacks the markers of the counts table")
    return f"{head}{BEGIN}\n{_counts_table(outputs)}\n{END}{tail}"


def build() -> dict[str, str]:
    """Return the text of every generated file by its path inside data/."""
    outputs: dict[str, Output] = {}
    _text_outputs(outputs)
    _record_outputs(outputs)
    files = {path: made.text for path, made in sorted(outputs.items())}
    return files | {"README.md": _readme(outputs)}


def stale_files(files: dict[str, str]) -> list[str]:
    """Return the paths that differ from what would be written, and files not generated."""
    stale = []
    for path, text in files.items():
        target = DATA_DIR / path
        if not target.is_file() or target.read_bytes() != text.encode("utf-8"):
            stale.append(path)
    return stale + sorted(_extra_files(files))


def _extra_files(files: Iterable[str]) -> set[str]:
    found: set[Path] = set()
    for folder in GENERATED_FOLDERS:
        found |= {path for path in (DATA_DIR / folder).rglob("*") if path.is_file()}
    return {path.relative_to(DATA_DIR).as_posix() for path in found} - set(files)


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the sample data.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)
    files = build()
    if options.check:
        stale = stale_files(files)
        for path in stale:
            print(f"differs or is not generated: {path}")
        return 1 if stale else 0
    for path, text in files.items():
        target = DATA_DIR / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8"))
    print(f"wrote {len(files)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
