"""report.py as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medtune.common.errors import ConfigError
from medtune.parsing import parse_into
from medtune.report.options import ReportArguments
from tests.conftest import REPO


def start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPO / "report.py"), *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


@pytest.fixture
def unfinished(outputs: Path) -> Path:
    """The folder above a chain whose evaluations are not finished: nothing is compared."""
    for file in outputs.glob("*-evaluation/COMPLETE"):
        file.unlink()
    return outputs.resolve().parent


def test_it_writes_the_page_and_says_where(unfinished: Path) -> None:
    done = start(unfinished, "--profile", "tiny", "--language=en")

    assert done.returncode == 0, done.stderr
    assert "written: outputs/tiny-report.html" in done.stderr
    assert (unfinished / "outputs/tiny-report.html").is_file()
    assert "## Verdict" in (unfinished / "outputs/tiny-report.md").read_text("utf-8")


def test_a_damaged_file_ends_with_exit_code_2_and_its_path(unfinished: Path) -> None:
    damaged = unfinished / "outputs/tiny-sft-v1/ledger.json"
    damaged.write_text("{", encoding="utf-8")
    done = start(unfinished, "--profile", "tiny")

    assert done.returncode == 2
    assert done.stderr.startswith("error: outputs/tiny-sft-v1/ledger.json: expected a JSON object")
    assert "Traceback" not in done.stderr


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean --evaluations?"):
        parse_into(["--evaluation", "x"], [ReportArguments], {})
