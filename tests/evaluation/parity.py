"""Where the official scorers' stored numbers lie, and the mark for tests that need them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPO

PARITY = REPO.parent / "shared" / "parity"
KEY = REPO.parent / "shared" / "data" / "cmb_exam" / "cmb_test_answer_key.json"

needs_parity = pytest.mark.skipif(not PARITY.exists(), reason="no stored official numbers here")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
