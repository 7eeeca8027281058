"""Damage each file of the newest checkpoint in turn, and see what the next start does with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

from medtune.training.checkpoints.manifest import find_damage
from tests.faults.cases import Case
from tests.faults.driver import Lab, open_lab
from tests.faults.injected import Fault, halve
from tests.faults.promises import continued_from, newest, result_of, set_aside


def flip_bit(path: Path) -> None:
    """Flip the lowest bit of the byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero_half(path: Path) -> None:
    """Write zeros over the second half."""
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flip a bit": flip_bit,
    "truncate": halve,
    "zero half": zero_half,
    "delete": Path.unlink,
}


def damaged_runs(
    lab: Lab, case: Case, damage: str, is_started: Callable[[int], bool] = lambda _: True
) -> dict[str, str]:
    """Return for each file of a checkpoint what became of a run whose newest one has it damaged.

    is_started: says by the file's number whether the command is run; others are only looked at.
    "equal": the checkpoint was set aside, the one before used, the result is the uninterrupted
    run's.   "found": of a file that was only looked at.
    """
    original = lab.new_output("damage")
    lab.attempt(case, original, Fault("kill", "before any file", at=5))
    step = newest(original)
    results = {}
    for number, file in enumerate(sorted((original / f"checkpoint-{step}").iterdir())):
        output = lab.new_output("damaged")
        shutil.copytree(original, output)
        checkpoint = output / f"checkpoint-{step}"
        DAMAGES[damage](checkpoint / file.name)
        if is_started(number):
            results[file.name] = outcome(lab, case, output, step)
        else:
            results[file.name] = "found" if find_damage(checkpoint) else "not found"
        shutil.rmtree(output.parent)
    return results


def every_damage() -> int:
    """Damage each file of a checkpoint in each way and run the command; print a table."""
    with open_lab() as lab:
        results = {damage: damaged_runs(lab, Case("sft", 1), damage) for damage in DAMAGES}
    files = next(iter(results.values()))
    print("| file | " + " | ".join(results) + " |\n" + "|---" * (len(results) + 1) + "|")
    for name in files:
        print(f"| {name} | " + " | ".join(results[damage][name] for damage in results) + " |")
    return int(any(set(found.values()) != {"equal"} for found in results.values()))


def outcome(lab: Lab, case: Case, output: Path, step: int) -> str:
    """Return what the same command makes of a damaged checkpoint."""
    attempt = lab.attempt(case, output)
    if attempt.exit_code:
        return f"exit code {attempt.exit_code}"
    if set_aside(output) != {f"checkpoint-{step}.bad"}:
        return f"set aside: {sorted(set_aside(output))}"
    if continued_from(attempt.log) != step - 2:
        return f"continued from {continued_from(attempt.log)}"
    return "equal" if result_of(output) == lab.reference(case)[0] else "another result"
