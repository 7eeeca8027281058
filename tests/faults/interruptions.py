"""Kill a run, start it again until it ends, and count what became of it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.cases import NUM_KEPT, NUM_STEPS, SAVE_STEPS, Case
from tests.faults.driver import Attempt, Kill, Lab
from tests.faults.injected import END_POINTS, SAVE_POINTS, Fault
from tests.faults.promises import (
    Result,
    committed_steps,
    continued_from,
    newest,
    result_of,
    set_aside,
    steps_on_disk,
)

SHARE_INSIDE_SAVES = 0.4  # of the kills; the others come at any moment of the run
SHARE_ONE_RANK = 0.3  # of the kills of a run of two processes
MAX_STARTS = 8
Interruption = Fault | Kill


@dataclass
class Tally:
    """What became of runs that were killed. lost: checkpoints that were committed before a kill."""

    runs: int = 0
    kills: int = 0
    inside_saves: int = 0
    resumed: int = 0
    equal: int = 0
    lost: int = 0
    set_aside: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add the counts of another."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def interrupted_run(
    lab: Lab, case: Case, interruptions: Sequence[Interruption | Callable[[float], Interruption]]
) -> Tally:
    """Start a run, interrupt it again and again, then let it end; return what became of it.

    A run that ends before its kill comes is done: that kill is not counted.
    """
    tally, output = Tally(runs=1), lab.new_output()
    expected, seconds = lab.reference(case)
    before = 0  # the newest committed step
    for number in range(MAX_STARTS):
        planned = interruptions[number] if number < len(interruptions) else None
        interruption = planned(seconds) if callable(planned) else planned
        fault = interruption if isinstance(interruption, Fault) else None
        kill = interruption if isinstance(interruption, Kill) else None
        whole, bad = committed_steps(output), set_aside(output)
        attempt = lab.attempt(case, output, fault, kill)
        check_start(tally, attempt, before, whole, set_aside(output) - bad)
        if attempt.exit_codes == [0] * case.num_processes:
            break
        if -9 not in attempt.exit_codes:
            tally.problems.append(f"exit codes {attempt.exit_codes}: {attempt.log[-1500:]}")
            return tally
        tally.kills += 1
        tally.inside_saves += fault is not None
        after = newest(output)
        if after < before:
            tally.lost += 1
            tally.problems.append(f"newest checkpoint {before} -> {after}: {attempt.log[-800:]}")
        before = after
    else:
        tally.problems.append(f"not done after {MAX_STARTS} starts")
        return tally
    tally.resumed = 1
    tally.set_aside = len(set_aside(output))
    check_end(tally, output, expected)
    return tally


def check_start(
    tally: Tally, attempt: Attempt, newest_before: int, whole: list[int], now_aside: set[str]
) -> None:
    """Check where a start went on from, and what it set aside."""
    start = continued_from(attempt.log)
    if start is not None and start < newest_before:
        tally.lost += 1
        tally.problems.append(f"went on from {start}, {newest_before} was committed")
    for name in now_aside:
        if int(name.split("-")[1].split(".")[0]) in whole:
            tally.problems.append(f"{name} was whole and is set aside")


def check_end(tally: Tally, output: Path, expected: Result) -> None:
    """Check a finished run: equal to the uninterrupted one, and its folder in order."""
    try:
        found = result_of(output)
    except AssertionError as error:
        tally.problems.append(f"result: {error}")
        return
    tally.equal = int(found == expected)
    if found != expected:
        tally.problems.append(f"{found} instead of {expected}")
    if steps_on_disk(output) != committed_steps(output) or newest(output) != NUM_STEPS:
        tally.problems.append(f"folders {steps_on_disk(output)}")


def draw_interruptions(
    draw: random.Random, num_processes: int
) -> list[Callable[[float], Interruption]]:
    """Return one to three interruptions, as functions of the uninterrupted run's seconds."""
    return [draw_interruption(draw, num_processes) for _ in range(draw.choice((1, 1, 2, 3)))]


def draw_interruption(draw: random.Random, num_processes: int) -> Callable[[float], Interruption]:
    """Return an interruption at any moment, or at a point of a save."""
    if draw.random() < SHARE_INSIDE_SAVES:
        point = draw.choice((*SAVE_POINTS, *END_POINTS))
        first = NUM_KEPT + 1 if point == "in rotation" else 1  # that one is the first to remove one
        at = draw.randint(first, NUM_STEPS // SAVE_STEPS // 2)
        fault = Fault("kill", point, at)
        return lambda seconds: fault
    share = draw.random()
    rank = None
    if num_processes > 1 and draw.random() < SHARE_ONE_RANK:
        rank = draw.randrange(num_processes)
    return lambda seconds: Kill(seconds * share, rank)
