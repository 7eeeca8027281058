"""Two nodes on one machine: network namespaces joined by a veth pair, one agent of torchrun each.

Needs root on Linux. One node's processes are killed and its cable is pulled, so that the other one
hears nothing; it has to end by itself, and the same command on both has to end as one node does.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.cases import Case
from tests.faults.driver import REPO, Lab, open_lab
from tests.faults.injected import Fault
from tests.faults.launched import command, environment
from tests.faults.promises import committed_steps, continued_from, result_of

NODES = ("medtune-a", "medtune-b")
ADDRESSES = ("10.231.7.1", "10.231.7.2")
PORT = 29517
CASE = Case("sft", 2)
HANG_TIMEOUT_S = 20
LONGEST_END_S = 60.0


def two_nodes() -> int:
    """Lose the second node, then the first, each by death and by silence; print how it went."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("two-nodes: expected root and the command ip, found them missing")
        return 2
    is_good = True
    with open_lab() as lab:
        expected = lab.reference(CASE)[0]
        for lost in (1, 0):
            for is_silent in (False, True):
                output = lab.new_output("nodes")
                with joined_namespaces():
                    seconds, codes, last = lose_a_node(lab, output, lost, is_silent)
                whole = committed_steps(output)
                with joined_namespaces():
                    again = [start_node(lab, output, node) for node in (0, 1)]
                    ends = [wait(node, 120) for node in again]
                log = output.with_name("node-0.log").read_text(errors="replace")
                is_equal = ends == [0, 0] and result_of(output) == expected
                is_good &= is_equal and codes != 0 and seconds < LONGEST_END_S
                how = "silent" if is_silent else "killed"
                print(
                    f"node {lost} {how}: the other one ended with {codes} after {seconds:.1f} s "
                    f"({last}); checkpoints {whole}, continued from {continued_from(log)}, "
                    f"exit codes {ends}, equal {is_equal}",
                    flush=True,
                )
    return int(not is_good)


def lose_a_node(lab: Lab, output: Path, lost: int, is_silent: bool) -> tuple[float, int, str]:
    """Return the seconds and the exit code with which the node that is left ends, and its words."""
    # A rank that stands still in step 8: so the moment is the same each time, after checkpoint 6.
    stop = Fault("hang", at=8, rank=lost)
    nodes = [start_node(lab, output, node, stop) for node in (0, 1)]
    deadline = time.monotonic() + 90
    while 6 not in committed_steps(output):
        assert time.monotonic() < deadline, output.with_name("node-0.log").read_text()[-3000:]
        time.sleep(0.05)
    time.sleep(1.0)
    if is_silent:
        ip("netns", "exec", NODES[lost], "ip", "link", "set", f"veth{lost}", "down")
    os.killpg(nodes[lost].pid, signal.SIGKILL)
    kill_in(NODES[lost])
    started = time.monotonic()
    code = wait(nodes[1 - lost], 300)
    seconds = time.monotonic() - started
    kill_in(NODES[1 - lost])
    log = output.with_name(f"node-{1 - lost}.log").read_text(errors="replace")
    lines = [line for line in log.splitlines() if line.startswith("error:") or "Error: [" in line]
    return seconds, code, (lines or ["no line"])[0][:160]


def start_node(
    lab: Lab, output: Path, node: int, fault: Fault | None = None
) -> "subprocess.Popen[bytes]":
    """Start one node's agent with one process."""
    words = command(
        lab, CASE, output, "--nnodes=2", "--nproc_per_node=1", f"--node_rank={node}",
        "--rdzv_backend=static", f"--master_addr={ADDRESSES[0]}", f"--master_port={PORT}",
        f"--local_addr={ADDRESSES[node]}", "--max_restarts=0",
    )  # fmt: skip
    variables = {**environment(lab, fault), "GLOO_SOCKET_IFNAME": f"veth{node}"}
    with output.with_name(f"node-{node}.log").open("wb") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", NODES[node], *words, f"--hang_timeout_s={HANG_TIMEOUT_S}"],
            cwd=REPO, env=variables, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def wait(node: "subprocess.Popen[bytes]", timeout_s: float) -> int:
    """Return an agent's exit code; -1 if it has not ended in time."""
    try:
        return node.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(node.pid, signal.SIGKILL)
        return -1


def ip(*words: str) -> str:
    """Run ip and return what it prints."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def kill_in(namespace: str) -> None:
    """Kill every process that is left in a namespace of ours."""
    for pid in ip("netns", "pids", namespace).split():
        os.kill(int(pid), signal.SIGKILL)


@contextmanager
def joined_namespaces() -> Iterator[None]:
    """Two namespaces that see each other and nothing else."""
    try:
        for namespace in NODES:
            ip("netns", "add", namespace)
        ip("link", "add", "veth0", "netns", NODES[0], "type", "veth",
           "peer", "name", "veth1", "netns", NODES[1])  # fmt: skip
        for node, namespace in enumerate(NODES):
            ip("-n", namespace, "addr", "add", f"{ADDRESSES[node]}/24", "dev", f"veth{node}")
            for device in ("lo", f"veth{node}"):
                ip("-n", namespace, "link", "set", device, "up")
        yield
    finally:
        for namespace in NODES:
            kill_in(namespace)
            ip("netns", "del", namespace)
