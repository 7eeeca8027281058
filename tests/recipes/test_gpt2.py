"""Both GPT-2 recipes from data to answers, shrunken; what they print and leave behind."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from trl import SFTConfig

from medtune.parsing import parse_arguments
from tests.conftest import REPO

RECIPES = ("gpt2_pediatrics", "gpt2_chatbot")
FEW_STEPS = (
    "--max_steps=8", "--learning_rate=1e-2", "--warmup_steps=1", "--report_to=none",
    "--sample_max_new_tokens=4", "--gradient_accumulation_steps=1",
)  # fmt: skip


def write_table(path: Path) -> None:
    """A small table like the seed's: gb18030, one row in ten without an answer."""
    with path.open("w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["department", "title", "ask", "answer"])
        for day in range(1, 51):
            answer = "" if day % 10 == 0 else f"烧了{day}天，多喝水，及时就诊。"
            writer.writerow(["儿科", f"孩子发烧{day}天怎么办？", "要吃药吗？", answer])


def write_dialogues(path: Path) -> None:
    """Small dialogues as the seed's: lines that take turns, a blank line after each dialogue."""
    blocks = [f"头痛{day}天怎么办？\n多休息。\n还痛{day}次\n及时就诊。" for day in range(1, 51)]
    path.write_text("\n\n".join(blocks), encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both recipes on small data, at the same time: most of it is the start of Python."""
    root = tmp_path_factory.mktemp("recipes")
    write_table(root / "gpt2_pediatrics.csv")
    write_dialogues(root / "gpt2_chatbot.txt")
    started = {}
    for name in RECIPES:
        (data,) = root.glob(f"{name}.*")
        environment = {
            **os.environ, "DATA": str(data), "OUT": str(root / name), "LIMIT": "2",
            "MEDTUNE_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        environment.pop("MODEL", None)
        command = ["bash", str(REPO / "recipes" / name / "run.sh"), *FEW_STEPS]
        started[name] = subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    yield started
    for process in started.values():
        process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[str, Path]:
    """What a recipe printed, and its folder. The test fails with the output of one that failed."""
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed[-4000:]
    (folder,) = re.findall(r"^recipe: .*, into (.*)$", printed, re.MULTILINE)
    return printed, Path(folder)


def check_measured(folder: Path) -> None:
    """The answers became less surprising, item by item."""
    before, after = (
        json.loads((folder / f"{name}-evaluation/results.json").read_text(encoding="utf-8"))
        for name in ("base", "model")
    )
    values = [
        one["tasks"]["answer_perplexity"]["metrics"]["perplexity"]["value"]
        for one in (before, after)
    ]
    assert values[1] < values[0]
    assert "rouge_bleu" in after["tasks"]


def test_pediatrics_runs_from_a_table_to_answers(runs: dict[str, subprocess.Popen[str]]) -> None:
    printed, folder = finish(runs["gpt2_pediatrics"])

    assert "<question>>>>孩子发烧" in printed  # the text form, shown before training
    assert "empty_content 5" in printed  # rows without an answer are counted
    report = json.loads((folder / "data/report.json").read_text(encoding="utf-8"))
    (file,) = report["files"]
    assert (file["encoding"], file["rows_read"], file["rows_kept"]) == ("gb18030", 50, 45)
    questions = [
        {json.loads(line)["messages"][0]["content"] for line in part.open(encoding="utf-8")}
        for part in ((folder / f"data/{name}.jsonl") for name in ("train", "validation"))
    ]
    assert not questions[0] & questions[1]
    assert len(questions[1]) == pytest.approx(9, abs=5)
    check_measured(folder)
    lines = re.findall(r"/(?:base|model) +([\d.]+) +(\S+)   [\d,]+ tokens", printed)
    (before, seed_before), (after, seed_after) = [tuple(map(float, line)) for line in lines]
    assert after < before
    # exp(mean logit) of an untrained model is near 1, far below any perplexity that it can have.
    assert seed_before == pytest.approx(1, abs=0.2)
    assert seed_before < before and seed_after != pytest.approx(after, rel=0.1)


def test_chatbot_runs_from_dialogues_to_answers(runs: dict[str, subprocess.Popen[str]]) -> None:
    printed, folder = finish(runs["gpt2_chatbot"])

    assert re.search(r"\[CLS\]头痛\d+天怎么办？\[SEP\]>>>多休息。\[SEP\]<<<", printed)
    assert (folder / "base/vocab.txt").read_text(encoding="utf-8").startswith("[PAD]\n[UNK]\n")
    assert f"python chat.py --model_name_or_path {folder}/model" in printed
    check_measured(folder)


def test_sample_table_has_every_conversation_and_rows_without_an_answer(tmp_path: Path) -> None:
    table = tmp_path / "new" / "table.csv"
    script = REPO / "recipes/gpt2_pediatrics/sample_table.py"

    subprocess.run([sys.executable, script, REPO / "data/finetune", table], check=True)

    with table.open(encoding="gb18030", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = (REPO / "data/finetune").glob("*.jsonl")
    assert len(rows) == sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    assert sum(not row["answer"] for row in rows) == len(rows) // 50
    assert all(row["title"] == row["ask"] for row in rows)


@pytest.mark.parametrize("path", sorted((REPO / "recipes").glob("gpt2_*/*.yaml")), ids=str)
def test_configuration_of_a_recipe_parses_and_every_value_arrives(path: Path) -> None:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    on_cpu = ["--use_cpu", "True", "--bf16", "False"]

    options = parse_arguments(["--config", str(path), *on_cpu], SFTConfig, "pt" in path.stem)

    assert {name: options.to_dict()[name] for name in written} == written


@pytest.mark.parametrize("name", RECIPES)
def test_readme_names_every_file_of_its_recipe(name: str) -> None:
    folder = REPO / "recipes" / name
    text = (folder / "README.md").read_text(encoding="utf-8")

    files = {path.name for path in folder.iterdir() if path.suffix not in (".md", ".pyc")}
    assert [file for file in files - {"__pycache__"} if file not in text] == []
