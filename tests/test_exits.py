"""How a program ends: its exit code, with one process and as one of several."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPO

# An object that is only taken apart with the interpreter, and aborts it: what gloo's last thread
# may do. And an exit function, which has to run all the same.
PROGRAM = """
import atexit, os, sys
from medtune.common.errors import DataError, run_script

class Aborts:
    def __init__(self):
        self.abort = os.abort
    def __del__(self):
        self.abort()

def main(argv):
    sys.held = Aborts()
    atexit.register(print, "left in order")
    {end}

run_script(main)
"""


def end(how: str, num_processes: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WORLD_SIZE": str(num_processes)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=how)],
        cwd=REPO, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "exit_code"),
    [
        ("pass", 0),
        ("raise SystemExit(0)", 0),
        ("raise DataError('rows.jsonl:3: expected text')", 2),
        ("raise OSError(28, 'No space left on device')", 4),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_one_of_several_processes_keeps_its_exit_code_whatever_the_interpreter_still_holds(
    how: str, exit_code: int
) -> None:
    answer = end(how, num_processes=2)
    assert answer.returncode == exit_code, answer.stderr
    assert answer.stdout == "left in order\n"


def test_the_object_of_this_test_would_abort_a_process_that_tears_its_interpreter_down() -> None:
    assert end("pass", num_processes=1).returncode == -6
