"""Where every row and token of a stage went: by part, by reason and by file; it balances exactly.

For each file: rows read = rejected + not sampled + train + validation + mixed; for each part of
it: tokens read = kept + truncated. What was counted row by row must also be what the rows hold.
"""

from collections import Counter
from typing import Any

import numpy as np

from medtune.data.contamination.report import ContaminationReport
from medtune.data.parts import NOT_SAMPLED, TRAIN, VALIDATION, Loaded
from medtune.data.records import RecordT

TOKENS = ("read", "kept", "truncated", "truncated_rows", "supervised")


def ledger_of(
    data: Loaded[RecordT], contamination: ContaminationReport | None = None
) -> dict[str, Any]:
    """Return the rows and tokens of a stage. AssertionError if they do not balance."""
    files = files_of(data)
    for file in files:
        check_balance(file)
    rows: dict[str, Any] = {
        "read": sum(file["read"] for file in files),
        "rejected": dict(Counter(reject.reason for reject in data.rejects)),
    }
    rows |= {
        name: sum(file[name] for file in files)
        for name in ("not_sampled", "train", "validation", "mixed")
    }
    check_balance({"path": "all files", "tokens": {}, **rows})
    tokens = {name: Counter(dict.fromkeys(TOKENS, 0)) for name in data.parts}
    for file in files:
        for part, count in file["tokens"].items():
            tokens[part].update(count)
    return {
        "rows": rows,
        "tokens": {part: dict(count) for part, count in tokens.items()},
        "training_rows": data.num_rows,
        "files": files,
        "contamination": contamination and contamination.counts(),
    }


def files_of(data: Loaded[RecordT]) -> list[dict[str, Any]]:
    """Return what came of each file. One that is both trained and validated on is one entry."""
    files: dict[str, dict[str, Any]] = {}
    rejected: dict[str, Counter[str]] = {}
    for reject in data.rejects:
        rejected.setdefault(reject.source.path, Counter())[reject.reason] += 1
    start = 0
    for number, path in enumerate(map(str, data.files)):
        end = start + data.num_records[number]
        in_part = np.bincount(data.part_of[start:end], minlength=NOT_SAMPLED + 1)
        start = end
        counts = {
            "read": data.rows_read[number],
            "not_sampled": int(in_part[NOT_SAMPLED]),
            "train": int(in_part[TRAIN]),
            "validation": int(in_part[VALIDATION]),
            "mixed": int(in_part[VALIDATION + 1 : NOT_SAMPLED].sum()),
        }
        before = files.get(path, {})
        entry = {name: count + before.get(name, 0) for name, count in counts.items()}
        tokens = {
            name: dict(data.tokens[part, number])
            for name, part in data.parts.items()
            if (part, number) in data.tokens
        }
        files[path] = {
            "path": path,
            **entry,
            "rejected": dict(rejected.get(path, {})),
            "tokens": before.get("tokens", {}) | tokens,
            "patients_data": dict(
                Counter(before.get("patients_data", {})) + data.patients_data.get(number, Counter())
            ),
        }
    return list(files.values())


def check_balance(file: dict[str, Any]) -> None:
    """AssertionError if rows or tokens went in and did not come out."""
    accounted = sum(file["rejected"].values()) + sum(
        file[name] for name in ("not_sampled", "train", "validation", "mixed")
    )
    assert file["read"] == accounted, f"rows do not balance: {file}"
    for part, tokens in file["tokens"].items():
        is_balanced = tokens["read"] == tokens["kept"] + tokens["truncated"]
        assert is_balanced, f"{file['path']}, {part}: {tokens}"
