"""The recipe of GLM-4: which commands it gives, with the book's names, and that each is understood.

What the commands do is tested where they are at home; `bash run_all.sh` runs the same ones whole
(tests/stages/test_chain.py, with the book's merge command).
"""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from trl import DPOConfig, SFTConfig

from medtune.arguments import EvaluationArguments, MergeArguments, ModelArguments
from medtune.parsing import parse_arguments, parse_into
from medtune.report.options import ReportArguments
from tests.conftest import REPO

FOLDER = REPO / "recipes/glm4_medical"
# Writes down how it was called, and does nothing.
RECORDER = '#!/usr/bin/env bash\nprintf "%q " "$@" >>commands.txt\necho >>commands.txt\n'
STAGES = {
    "pt": ("pretraining.py", SFTConfig),
    "sft": ("supervised_finetuning.py", SFTConfig),
    "dpo": ("dpo_training.py", DPOConfig),
}
Commands = list[list[str]]


def run_recipe(folder: Path, *flags: str, **variables: str) -> Commands:
    """What the recipe gives to python, in a folder that has its scripts and no data beside it."""
    for name in ("recipes", "scripts", "configs"):
        (folder / name).symlink_to(REPO / name)
    (folder / "setup.sh").write_text("")
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").write_text(RECORDER)
    (folder / ".venv/bin/python").chmod(0o755)
    names = ("MODEL", "DATA", "EVAL", "NPROC", "OUT", "LIMIT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    script = folder / "recipe.sh"  # as the recipe, which goes to the folder above its own
    text = (FOLDER / "run.sh").read_text(encoding="utf-8")
    script.write_text(text.replace('cd "$(dirname "${BASH_SOURCE[0]}")/../.."', f"cd {folder}"))
    subprocess.run(
        ["bash", str(script), *flags], env={**environment, **variables}, check=True,
        capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return [shlex.split(line) for line in (folder / "commands.txt").read_text().splitlines()]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Those of the recipe with OUT=. , as the book's names want it."""
    yield run_recipe(tmp_path_factory.mktemp("recipe"), "--max_steps=2", OUT=".")


def value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_each_stage_starts_from_the_merge_of_the_one_before(commands: Commands) -> None:
    scripts = ["evaluation.py"]
    for script, _ in STAGES.values():
        scripts += [script, "merge_peft_adapter.py", "evaluation.py"]
    assert [command[0] for command in commands] == [*scripts, "report.py"]

    base = "tiny-glm"
    for number, name in enumerate(STAGES):
        stage, merge, measured = commands[3 * number + 1 : 3 * number + 4]
        assert value(stage, "--model_name_or_path") == value(merge, "--base_model") == base
        assert value(stage, "--output_dir") == value(merge, "--lora_model") == f"./glm4-{name}-v1"
        assert value(stage, "--config") == f"recipes/glm4_medical/{name}.yaml"
        assert stage[-1] == "--max_steps=2"
        base = f"./glm4-{name}-merged"
        assert value(merge, "--output_dir") == f"{base}/"
        assert value(merge, "--model_type") == "chatglm"
        assert value(measured, "--model_name_or_path") == base
        before = ("base", *STAGES)[number]
        assert value(measured, "--baseline") == f"./glm4-{before}-evaluation"


def test_every_command_is_understood(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(REPO)
    kinds = {
        "evaluation.py": [ModelArguments, EvaluationArguments],
        "merge_peft_adapter.py": [MergeArguments],
        "report.py": [ReportArguments],
    }
    trainers = dict(STAGES.values())
    for script, *words in commands:
        if script in kinds:
            parse_into(words, kinds[script], {})
        else:
            parse_arguments(words, trainers[script], with_blocks=script == "pretraining.py")


def test_model_takes_the_configurations_of_the_full_size(tmp_path: Path) -> None:
    found = run_recipe(tmp_path, MODEL="/models/glm-4-9b-chat-hf", DATA="/data", OUT="out")

    stage = next(command for command in found if command[0] == "pretraining.py")
    assert value(stage, "--config") == "configs/glm4-9b/pt.yaml"
    assert value(stage, "--model_name_or_path") == "/models/glm-4-9b-chat-hf"
    assert value(stage, "--train_file_dir") == "/data/pretrain"
    assert value(found[0], "--data_dir") == "/data"


@pytest.mark.parametrize("name", STAGES)
def test_every_option_of_the_configurations_is_known(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    arguments = parse_arguments(["--config", str(path)], STAGES[name][1], with_blocks=name == "pt")

    assert arguments.training.output_dir == f"outputs/glm4_medical/glm4-{name}-v1"
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= set(arguments.to_dict())
