"""The long part: kill runs at random moments for as long as is asked, and print a table.

    python -m tests.faults --runs 200 --minutes 60 --output bench/results/faults.json
    python -m tests.faults damage        each file of a checkpoint, damaged in each of four ways
    python -m tests.faults two-nodes     as root, on Linux: two network namespaces, one node lost

The same seed draws the same runs and points; where a random moment falls depends on the machine.
"""

import argparse
import json
import random
import sys
import time
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

from tests.faults.cases import STAGES, draw_case
from tests.faults.damage import every_damage
from tests.faults.driver import open_lab
from tests.faults.interruptions import Tally, draw_interruptions, interrupted_run
from tests.faults.two_nodes import two_nodes

COLUMNS = ("runs", "kills", "inside_saves", "resumed", "equal", "lost", "set_aside")
NUM_VARIANTS = 3  # sets of options of a stage and a number of processes


def main(argv: list[str]) -> int:
    """Run the long part. Returns 1 if a promise was broken."""
    if argv[:1] == ["two-nodes"]:
        return two_nodes()
    if argv[:1] == ["damage"]:
        return every_damage()
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=200, help="runs to kill at least once")
    parser.add_argument("--minutes", type=float, default=60, help="begin none after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a JSON file for the counts")
    options = parser.parse_args(argv)
    started = time.monotonic()
    tallies = run_kills(options.runs, options.minutes, options.seed)
    print(table(tallies))
    if options.output:
        write(options.output, tallies, options.seed, time.monotonic() - started)
    problems = [problem for tally in tallies.values() for problem in tally.problems]
    return int(bool(problems))


def run_kills(num_runs: int, minutes: float, seed: int) -> dict[str, Tally]:
    """Kill runs of each stage on one and two processes in turn; return the counts of each."""
    started = time.monotonic()
    tallies: dict[str, Tally] = {}
    kinds = cycle([(stage, processes) for processes in (1, 2) for stage in STAGES])
    with open_lab() as lab:
        for number, (stage, processes) in enumerate(kinds):
            killed = sum(tally.runs for tally in tallies.values())
            elapsed = time.monotonic() - started
            if killed >= num_runs or elapsed > minutes * 60:
                return tallies
            draw = random.Random(f"{seed} {number}")
            case = draw_case(stage, processes, f"{seed} {draw.randrange(NUM_VARIANTS)}")
            tally = interrupted_run(lab, case, draw_interruptions(draw, processes))
            if tally.kills or tally.problems:
                tallies.setdefault(f"{stage} x {processes}", Tally()).add(tally)
            print(f"{elapsed:5.0f} s  {number:3}  {stage} x {processes}  {tally}", flush=True)
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """Return the counts by stage and processes, and their sum, as a table."""
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    lines = ["| stage x processes | " + " | ".join(COLUMNS) + " |", "|---" * 8 + "|"]
    for name, tally in {**tallies, "all": total}.items():
        lines.append(f"| {name} | " + " | ".join(str(getattr(tally, c)) for c in COLUMNS) + " |")
    return "\n".join([*lines, *(f"PROBLEM {problem}" for problem in total.problems)])


def write(path: Path, tallies: dict[str, Tally], seed: int, seconds: float) -> None:
    """Write the counts as JSON."""
    value = {
        "seed": seed,
        "seconds": round(seconds),
        "by_stage_and_processes": {name: asdict(tally) for name, tally in tallies.items()},
    }
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
