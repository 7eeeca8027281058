"""The recipe of GLM-4 with the book's folder names, shrunken; then the book's own commands."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from trl import DPOConfig, SFTConfig

from medtune.common.files import read_json
from medtune.common.lineage import is_complete
from medtune.parsing import parse_arguments
from tests.conftest import REPO
from tests.stages.test_chain import LEFT_OUT

FEW_STEPS = (
    "--max_steps=2", "--per_device_train_batch_size=2", "--max_train_samples=40",
    "--max_eval_samples=8", "--report_to=none", "--sample_max_new_tokens=2",
)  # fmt: skip
FOLDER = REPO / "recipes/glm4_medical"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project with no data beside it, after the recipe with OUT=."""
    root = tmp_path_factory.mktemp("recipe") / "medtune"
    folder = Path(shutil.copytree(REPO, root, ignore=LEFT_OUT))
    (folder / ".venv").symlink_to(REPO / ".venv")
    environment = {
        **os.environ, "OUT": ".", "LIMIT": "2", "OMP_NUM_THREADS": "1",
        "MEDTUNE_CACHE": os.environ.get("MEDTUNE_CACHE", str(REPO / ".cache")),
    }  # fmt: skip
    for name in ("MODEL", "DATA", "EVAL", "NPROC"):
        environment.pop(name, None)
    answer = subprocess.run(
        ["bash", "recipes/glm4_medical/run.sh", *FEW_STEPS], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    yield folder


def test_each_stage_has_the_books_names_and_is_measured(checkout: Path) -> None:
    for stage in ("pt", "sft", "dpo"):
        assert is_complete(checkout / f"glm4-{stage}-v1")
        assert is_complete(checkout / f"glm4-{stage}-merged")
    for stage in ("base", "pt", "sft", "dpo"):
        tasks = read_json(checkout / f"glm4-{stage}-evaluation/results.json")["tasks"]
        assert set(tasks) == {"cmb_exam_text", "cmb_clin"}
    assert (checkout / "glm4-report.html").stat().st_size > 10_000


def test_the_books_merge_command_works_as_it_is_written(checkout: Path) -> None:
    base = read_json(checkout / "glm4-pt-v1/lineage.json")["inputs"]["base"]["path"]
    shutil.rmtree(checkout / "glm4-pt-merged")

    command = (
        f".venv/bin/python merge_peft_adapter.py --model_type chatglm --base_model {base} "
        "--lora_model glm4-pt-v1 --output_dir glm4-pt-merged/"
    )
    subprocess.run(command.split(), cwd=checkout, check=True, capture_output=True)

    assert is_complete(checkout / "glm4-pt-merged")


@pytest.mark.parametrize(
    ("name", "kind"), [("pt", SFTConfig), ("sft", SFTConfig), ("dpo", DPOConfig)]
)
def test_every_option_of_the_configurations_is_known(name: str, kind: type) -> None:
    path = FOLDER / f"{name}.yaml"
    arguments = parse_arguments(["--config", str(path)], kind, with_blocks=name == "pt")

    assert arguments.training.output_dir == f"outputs/glm4_medical/glm4-{name}-v1"
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= set(arguments.to_dict())
