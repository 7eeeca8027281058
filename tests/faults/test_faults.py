"""The short part of the fault lab: the stages' commands broken at named moments, on the CPU.

Each test names the promise. The reference is the uninterrupted run of the same command.
"""

import errno
import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.faults.cases import NUM_STEPS, Case
from tests.faults.damage import DAMAGES, damaged_runs
from tests.faults.driver import Attempt, Lab, open_lab
from tests.faults.injected import END_POINTS, SAVE_POINTS, Fault
from tests.faults.interruptions import Tally, draw_interruptions, interrupted_run
from tests.faults.launched import launch
from tests.faults.promises import (
    committed_steps,
    continued_from,
    newest,
    result_of,
    steps_on_disk,
)

SFT, SFT2, DPO2 = Case("sft", 1), Case("sft", 2), Case("dpo", 2)
TMPFS_MIB = 160  # a run asks for 134: three checkpoints and the result, each with 32 to spare


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def continue_and_compare(lab: Lab, case: Case, output: Path) -> Attempt:
    """Run the same command again: it must end as the uninterrupted run."""
    attempt = lab.attempt(case, output)
    assert attempt.exit_codes == [0] * case.num_processes, attempt.log[-3000:]
    assert result_of(output) == lab.reference(case)[0]
    return attempt


def test_a_run_killed_at_each_point_of_a_save_ends_as_the_uninterrupted_one(lab: Lab) -> None:
    points = [Fault("kill", point, at=4) for point in (*SAVE_POINTS, *END_POINTS)]
    tally = Tally()
    # Three kills a run: each point comes, in the order of a save.
    for start in range(0, len(points), 3):
        tally.add(interrupted_run(lab, SFT, of_new_saves(points[start : start + 3])))

    assert tally.problems == []
    assert tally.kills == len(points)
    assert tally.equal == tally.resumed == tally.runs


def of_new_saves(points: list[Fault]) -> list[Fault]:
    """A start that continues makes its own first save: count from there."""
    return [
        fault if number == 0 or fault.point == "in rotation" else Fault("kill", fault.point)
        for number, fault in enumerate(points)
    ]


@pytest.mark.parametrize("case", (Case("pt", 1), DPO2), ids=("pt", "dpo on two"))
def test_a_run_killed_at_random_moments_ends_as_the_uninterrupted_one(lab: Lab, case: Case) -> None:
    draw = random.Random(3)
    tally = interrupted_run(lab, case, draw_interruptions(draw, case.num_processes))

    assert tally.problems == []
    assert (tally.resumed, tally.equal, tally.lost) == (1, 1, 0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_with_any_file_damaged_is_set_aside(lab: Lab, damage: str) -> None:
    number = list(DAMAGES).index(damage)  # each kind on another file; the long part: on each
    found = damaged_runs(lab, SFT, damage, lambda file: file % 12 == number * 3)

    assert len(found) >= 8  # files of a checkpoint
    assert list(found.values()).count("equal") == 1
    assert set(found.values()) == {"equal", "found"}


@pytest.mark.parametrize("case", (SFT, SFT2), ids=("one process", "two"))
def test_a_step_that_is_not_finite_is_left_out_and_its_rows_are_named(lab: Lab, case: Case) -> None:
    output = lab.new_output()
    attempt = lab.attempt(case, output, Fault("nan", at=5, rank=case.num_processes - 1))

    assert attempt.exit_codes == [0] * case.num_processes, attempt.log[-3000:]
    (event,) = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]
    assert event["step"] == 5 and event["num_rows"] > 0
    assert all(str(lab.data / "sft" / "a.jsonl") + ":" in row for row in event["rows"])
    assert are_finite(output)


@pytest.mark.parametrize("case", (SFT, SFT2), ids=("one process", "two"))
def test_a_run_that_is_never_finite_again_ends_with_3_and_its_good_checkpoint(
    lab: Lab, case: Case
) -> None:
    output = lab.new_output()
    attempt = lab.attempt(case, output, Fault("nan", at=5, steps=99, rank=case.num_processes - 1))

    assert attempt.exit_codes == [3] * case.num_processes
    assert f"The last good checkpoint: {output}/checkpoint-6" in attempt.log
    assert are_finite(output / "checkpoint-6")
    assert not (output / "COMPLETE").exists()


def are_finite(folder: Path) -> bool:
    """True if no weight of an adapter is infinite or no number."""
    with safe_open(folder / "adapter_model.safetensors", "np") as file:
        return all(abs(file.get_tensor(name)).max() < float("inf") for name in file.keys())  # noqa: SIM118


@pytest.mark.parametrize(
    ("number", "case"), [(signal.SIGTERM, SFT), (signal.SIGINT, SFT), (signal.SIGTERM, SFT2)]
)
def test_a_signal_ends_a_run_with_one_checkpoint_more(
    lab: Lab, number: signal.Signals, case: Case
) -> None:
    output = lab.new_output()
    fault = Fault("signal", at=7, signal=number, rank=case.num_processes - 1)
    attempt = lab.attempt(case, output, fault)

    assert attempt.exit_codes == [128 + number] * case.num_processes, attempt.log[-3000:]
    assert committed_steps(output) == [6, 7] == steps_on_disk(output)
    assert continued_from(continue_and_compare(lab, case, output).log) == 7


def test_a_rank_that_hangs_ends_the_run_with_its_stacks(lab: Lab) -> None:
    output = lab.new_output()
    attempt = lab.attempt(
        SFT2, output, Fault("hang", at=6, rank=1), options=("--hang_timeout_s=8",)
    )

    assert 0 not in attempt.exit_codes
    assert attempt.seconds < lab.reference(SFT2)[1] + 30
    assert "has ended no step for 8 s" in attempt.log
    assert "most recent call first" in attempt.log and "training_step" in attempt.log
    continue_and_compare(lab, SFT2, output)


def test_an_error_on_one_rank_ends_both(lab: Lab) -> None:
    output = lab.new_output()
    attempt = lab.attempt(SFT2, output, Fault("raise", at=6, rank=1))

    assert 0 not in attempt.exit_codes
    assert "RuntimeError: injected" in attempt.log
    continue_and_compare(lab, SFT2, output)


# -- disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("point", ("before any file", "in the weights", "before the optimizer"))
def test_a_full_disk_ends_a_run_with_4_and_keeps_the_last_checkpoint(
    lab: Lab, small_disk: Path, point: str
) -> None:
    output, filler = small_disk / "run" / "out", small_disk / "filler"
    output.parent.mkdir()
    attempt = lab.attempt(SFT, output, Fault("full", point, at=4, filler=str(filler)))

    assert attempt.exit_codes == [4], attempt.log[-3000:]
    assert re.search(r"need (about )?\d+\.\d MiB, have \d+\.0 KiB", attempt.log), attempt.log
    assert steps_on_disk(output) == committed_steps(output) == [4, 6]
    subprocess.run(["mount", "-o", f"remount,size={3 * TMPFS_MIB}m", str(small_disk)], check=True)
    assert continued_from(continue_and_compare(lab, SFT, output).log) == 6


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(
    lab: Lab, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    output = small_disk / "run" / "out"
    output.parent.mkdir()
    attempt = lab.attempt(SFT, output)

    assert attempt.exit_codes == [4]
    assert re.search(r"need 13\d\.\d MiB, have \d+\.\d MiB", attempt.log), attempt.log
    assert steps_on_disk(output) == []


def test_an_error_of_a_full_disk_is_told_apart_from_others(lab: Lab) -> None:
    output = lab.new_output()
    attempt = lab.attempt(SFT, output, Fault("full", "in the weights", at=4))

    assert attempt.exit_codes == [4]
    assert os.strerror(errno.ENOSPC) in attempt.log
    assert steps_on_disk(output) == committed_steps(output) == [4, 6]
    assert newest(output) < NUM_STEPS
    continue_and_compare(lab, SFT, output)


# -- the real launcher


def test_torchrun_starts_a_run_again_whose_rank_was_killed(lab: Lab) -> None:
    output = lab.new_output()
    fault = Fault("step kill", at=6, rank=1, once=str(output.with_name("killed")))

    attempt = launch(lab, SFT2, output, fault, ("--max-restarts", "1"))

    assert attempt.exit_codes == [0], attempt.log[-3000:]
    assert output.with_name("killed").exists()
    assert f"continuing from {output}/checkpoint-4" in attempt.log
    assert result_of(output) == lab.reference(SFT2)[0]
