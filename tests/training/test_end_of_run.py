"""A run whose last checkpoint is there already ends without another step."""

import pytest
from safetensors.torch import load_file
from torch import equal

from medtune.training.progress import read_metrics
from tests.training.conftest import Stage


@pytest.mark.parametrize("stage", ("pt", "sft", "dpo"))
def test_a_run_that_was_killed_after_its_last_checkpoint_makes_no_further_step(
    run_stage: Stage, stage: str
) -> None:
    options = ("--max_steps=4", "--save_strategy=steps", "--save_steps=4", "--eval_strategy=no")
    folder = run_stage(stage, "out", *options)  # four steps are no whole epoch
    expected = load_file(folder / "adapter_model.safetensors")
    for name in ("COMPLETE", "adapter_model.safetensors"):
        (folder / name).unlink()

    run_stage(stage, "out", *options)

    found = load_file(folder / "adapter_model.safetensors")
    assert all(equal(found[name], tensor) for name, tensor in expected.items())
    assert [e["step"] for e in read_metrics(folder) if "loss" in e] == [1, 2, 3, 4]
