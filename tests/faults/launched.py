"""The stages under the real torchrun, with a fault in them; also a command of its own.

    torchrun --standalone --nproc_per_node 2 -m tests.faults.launched sft OPTIONS

reads the fault from FAULT, as JSON.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.cases import Case
from tests.faults.driver import ENVIRONMENT, REPO, SCRIPTS, Attempt, Lab
from tests.faults.injected import Fault, install

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
VARIABLE = "FAULT"


def command(lab: Lab, case: Case, output: Path, *launcher: str) -> list[str]:
    """Return the words that run a case below torchrun with these options of its own."""
    words = case.argv(lab.model, lab.data, output)
    return [*TORCHRUN, *launcher, "-m", "tests.faults.launched", case.stage, *words]


def environment(lab: Lab, fault: Fault | None = None) -> dict[str, str]:
    """Return the environment of a launched run."""
    more = {VARIABLE: json.dumps(asdict(fault))} if fault else {}
    return {**os.environ, **ENVIRONMENT, "MEDTUNE_CACHE": str(lab.folder / "cache"), **more}


def launch(
    lab: Lab, case: Case, output: Path, fault: Fault | None = None, launcher: tuple[str, ...] = ()
) -> Attempt:
    """Run a case below torchrun on this host, to its end."""
    words = command(
        lab, case, output, "--standalone", f"--nproc_per_node={case.num_processes}", *launcher
    )
    started = time.monotonic()
    answer = subprocess.run(
        words, cwd=REPO, env=environment(lab, fault), capture_output=True, text=True, timeout=240
    )
    return Attempt([answer.returncode], time.monotonic() - started, answer.stderr)


def main() -> None:
    """Put the fault in place and run the stage that the first word names."""
    from medtune.common.errors import run_script
    from tests.training.conftest import MAINS

    stage = sys.argv[1]
    sys.argv = [SCRIPTS[stage], *sys.argv[2:]]
    described = os.environ.get(VARIABLE)
    install(Fault(**json.loads(described)) if described else None)
    run_script(MAINS[stage])


if __name__ == "__main__":
    main()
