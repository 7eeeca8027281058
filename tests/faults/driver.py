"""Starts the stages' real commands as processes, one a rank, and kills them.

Importing torch, transformers and TRL takes seconds, so a server process does so once and forks each
rank; it never runs an operation of torch, so that its children start without threads.
"""

import multiprocessing as mp
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.faults.cases import Case
from tests.faults.injected import Fault, install
from tests.faults.promises import Result, result_of

REPO = Path(__file__).parents[2]
SCRIPTS = {"pt": "pretraining.py", "sft": "supervised_finetuning.py", "dpo": "dpo_training.py"}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(REPO), "CUDA_VISIBLE_DEVICES": "",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # as in scripts/stage.sh
}  # fmt: skip
PRELOADED = ["tests.training.conftest", "medtune.models.tiny", "matplotlib.figure"]
GRACE_S = 1.0  # that the other ranks have after one has ended; torchrun has 30
LONGEST_S = 120.0


@dataclass
class Attempt:
    """How one start of a command ended. exit_codes: by rank, negative for a signal."""

    exit_codes: list[int]
    seconds: float
    log: str

    @property
    def exit_code(self) -> int:
        """Return the code that a launcher would see as the cause: of the first rank."""
        return self.exit_codes[0]


@dataclass
class Kill:
    """When to kill a run from outside. rank: None for all ranks at once."""

    after_s: float
    rank: int | None = None


def rank_main(
    stage: str, argv: list[str], environment: dict[str, str], log: str, fault: Fault | None
) -> None:
    """Be one rank of a command: what runs in the forked process."""
    os.setsid()  # its workers can be killed with it
    mp.set_start_method("fork", force=True)  # as a command of its own has it, for its workers
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    import torch

    from medtune.common.errors import run_script
    from tests.training.conftest import MAINS

    torch.set_num_threads(1)
    sys.argv = [SCRIPTS[stage], *argv]
    install(fault)
    run_script(MAINS[stage])


def write_material(model: str, data: str) -> None:
    """Write the small model and the rows: in a process of its own, since it uses torch."""
    from medtune.models.tiny import train_tokenizer
    from tests.conftest import write_small_model
    from tests.training.conftest import write_data

    Path(model).mkdir()
    write_small_model(Path(model), train_tokenizer())
    write_data(Path(data))


class Lab:
    """A folder with model and rows, and runs in it; `reference` has the uninterrupted ones."""

    def __init__(self, folder: Path) -> None:
        """Start the server and write the material."""
        self.folder = folder
        self.model, self.data = folder / "model", folder / "data"
        self._references: dict[Case, tuple[Result, float]] = {}
        self._num_runs = 0
        before = dict(os.environ)
        os.environ.update(ENVIRONMENT)
        try:
            forkserver.set_forkserver_preload(PRELOADED)
            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)
        self._context = mp.get_context("forkserver")
        writer = self._context.Process(
            target=write_material, args=(str(self.model), str(self.data))
        )
        writer.start()
        writer.join()
        assert writer.exitcode == 0

    def new_output(self, name: str = "run") -> Path:
        """Return a folder that no run has had, inside one of its own."""
        self._num_runs += 1
        parent = self.folder / f"{name.replace(' ', '_')}-{self._num_runs}"
        parent.mkdir()
        return parent / "out"

    def attempt(
        self,
        case: Case,
        output: Path,
        fault: Fault | None = None,
        kill: Kill | None = None,
        options: tuple[str, ...] = (),
    ) -> Attempt:
        """Run the command once, to its end or its death.   options: may differ between starts."""
        log = output.with_name("log")
        log.write_bytes(b"")
        argv = [*case.argv(self.model, self.data, output), *options]
        started = time.monotonic()
        ranks = [self._start(case, argv, rank, log, fault) for rank in ranks_of(case)]
        try:
            while any(rank.exitcode is None for rank in ranks):
                elapsed = time.monotonic() - started
                if kill and elapsed > kill.after_s:
                    kill_ranks(ranks if kill.rank is None else [ranks[kill.rank]])
                    kill = None
                if any(rank.exitcode not in (None, 0) for rank in ranks):
                    end_others(ranks)
                assert elapsed < LONGEST_S, f"still running: {log.read_text()[-3000:]}"
                time.sleep(0.002)
        finally:
            kill_ranks(ranks)
        codes = [int(rank.exitcode or 0) for rank in ranks]
        return Attempt(codes, time.monotonic() - started, log.read_text(errors="replace"))

    def _start(
        self, case: Case, argv: list[str], rank: int, log: Path, fault: Fault | None
    ) -> ForkServerProcess:
        environment = {**ENVIRONMENT, "MEDTUNE_CACHE": str(self.folder / "cache")}
        if case.num_processes > 1:
            if rank == 0:
                self._port = free_port()
            environment |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                "WORLD_SIZE": str(case.num_processes), "MASTER_PORT": str(self._port),
                "LOCAL_WORLD_SIZE": str(case.num_processes),
            }  # fmt: skip
        process = self._context.Process(
            target=rank_main, args=(case.stage, argv, environment, str(log), fault)
        )
        process.start()
        return process

    def reference(self, case: Case) -> tuple[Result, float]:
        """Return what the uninterrupted run of a case gives, and its seconds."""
        if case not in self._references:
            output = self.new_output("reference")
            attempt = self.attempt(case, output)
            assert attempt.exit_codes == [0] * case.num_processes, attempt.log[-5000:]
            self._references[case] = result_of(output), attempt.seconds
            shutil.rmtree(output.parent)
        return self._references[case]


@contextmanager
def open_lab(folder: Path | None = None) -> Iterator[Lab]:
    """Give a lab in a folder that is removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="faults-", dir=folder))
    try:
        yield Lab(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def ranks_of(case: Case) -> range:
    """Return the ranks of a case."""
    return range(case.num_processes)


def kill_ranks(ranks: list[ForkServerProcess]) -> None:
    """Kill ranks with SIGKILL, and the workers of each."""
    for rank in ranks:
        if rank.exitcode is None:
            rank.kill()
    for rank in ranks:
        rank.join()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(rank.pid or 0, signal.SIGKILL)


def end_others(ranks: list[ForkServerProcess]) -> None:
    """End the ranks that are left after one has ended: by SIGTERM, then SIGKILL, as torchrun."""
    deadline = time.monotonic() + GRACE_S
    for rank in ranks:
        rank.join(max(deadline - time.monotonic(), 0))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for rank in ranks:
            if rank.exitcode is None:
                os.kill(rank.pid or 0, number)
        deadline = time.monotonic() + GRACE_S
        for rank in ranks:
            rank.join(max(deadline - time.monotonic(), 0))


def free_port() -> int:
    """Return a port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
