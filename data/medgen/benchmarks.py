"""A few rows in the formats of CMB-Clin and PromptCBLUE, to try those benchmarks offline."""

from __future__ import annotations

import json
from typing import Any

from .tables import SOURCE_DIR, load_wording

Record = dict[str, Any]


def build_cases() -> list[Record]:
    """Return the cases in CMB-Clin's schema."""
    cases = json.loads((SOURCE_DIR / "cases.json").read_text(encoding="utf-8"))
    return [{"id": str(number), **case} for number, case in enumerate(cases, start=1)]


def build_promptcblue() -> list[Record]:
    """Return three or four rows of each of PromptCBLUE's tasks, task by task."""
    made = []
    for task, table in load_wording("promptcblue").items():
        for number, row in enumerate(table["rows"], start=1):
            choices = row.get("choices", table.get("choices"))
            texts = {key: value for key, value in row.items() if key in ("a", "b", "text")}
            made.append(
                {
                    "input": table["ask"].format(choices="，".join(choices or []), **texts),
                    "target": "\n".join(row["target"]),
                    "answer_choices": choices,
                    "task_type": table["type"],
                    "task_dataset": task,
                    "sample_id": f"medgen-{task}-{number}",
                }
            )
    return made
