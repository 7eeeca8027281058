"""A signal to a run script reaches the run: it saves, leaves, and the next step does not start."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from medtune.training.checkpoints.finding import checkpoints_of
from tests.conftest import REPO


@pytest.mark.parametrize(
    ("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)]
)
def test_run_script_passes_a_signal_on_and_waits(
    small_model_folder: Path, tmp_path: Path, number: int, processes: int
) -> None:
    process = subprocess.Popen(
        [
            "bash", "run_pt.sh", f"--output_dir={tmp_path / 'out'}", "--num_train_epochs=500",
            "--save_strategy=no", "--eval_strategy=no", "--report_to=none",
        ],
        cwd=REPO, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={
            **os.environ, "PROFILE": "tiny", "NPROC": str(processes), "OMP_NUM_THREADS": "1",
            "MODEL": str(small_model_folder),
        },
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(r"step 2/", line):
            process.send_signal(number)  # to bash alone, as a scheduler may do
            break
    rest = process.stderr.read()

    # torchrun makes its own code of what its processes leave with.
    assert process.wait(120) == 128 + number or processes > 1, rest
    assert process.returncode != 0
    (checkpoint,) = checkpoints_of(tmp_path / "out")
    assert (checkpoint / "MANIFEST.json").exists()
    assert not (tmp_path / "out" / "COMPLETE").exists()
