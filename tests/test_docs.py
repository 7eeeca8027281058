"""What the documents say is so: paths exist, commands parse, examples load, reasons are all."""

import ast
import json
import re
import shlex
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from trl import DPOConfig, SFTConfig

from medtune.arguments import (
    AdapterArguments,
    BlockArguments,
    ChatArguments,
    ConversionArguments,
    DataArguments,
    EvaluationArguments,
    MergeArguments,
    ModelArguments,
    NewModelArguments,
    RunArguments,
    SamplingArguments,
    ServingArguments,
    SpeedArguments,
)
from medtune.arguments.older_names import IMPOSSIBLE, OBSOLETE, RENAMED
from medtune.data.curation.options import PrepareArguments
from medtune.data.formats.conversations import conversation_from_row
from medtune.data.formats.preferences import preference_from_row
from medtune.data.formats.texts import text_from_row
from medtune.data.ledger import ledger_of
from medtune.data.mixing import mix_rows
from medtune.data.parts import Loaded
from medtune.data.reading import read_conversation_file
from medtune.data.records import Source
from medtune.data.rows import Rows
from medtune.evaluation.summary import SummaryArguments
from medtune.parsing import StageParser
from medtune.report.options import ReportArguments
from medtune.training.memory.__main__ import MemoryArguments
from medtune.training.run_folder import describe_inputs
from tests.conftest import REPO

PAGES = [
    *(REPO / f"{name}.md" for name in ("README", "README_zh", "CONTRIBUTING", "CHANGELOG")),
    REPO / "data/README.md",
    *sorted((REPO / "docs").glob("*.md")),
    *sorted((REPO / "recipes").glob("*/README.md")),
]
FORMATS = REPO / "docs/data_formats.md"
MAX_README_LINES = 200
NOT_YET: set[str] = set()
# What CONTRIBUTING.md says there shall not be, and ChatGLM2's scripts.
NOT_TO_BE = {"utils.py", "main.py", "train.sh"}

# Not in the repository: what runs write, and what is installed or cached.
WRITTEN = ("outputs", ".venv", ".cache", ".git", "runs", "chat_logs", "chat_votes")
RUN_FILES = {
    "COMPLETE", "adapter_config.json", "adapter_model.safetensors", "arguments.yaml",
    "chat_template.jinja", "config.json", "eval_results.json", "generation_config.json",
    "ledger.json", "lineage.json", "merge_report.json", "metrics.jsonl", "model.safetensors",
    "rejects.jsonl", "tokenizer.json", "tokenizer_config.json", "train_results.json",
    "training_loss.png", "train.jsonl", "validation.jsonl", "test.jsonl", "report.json",
    "card.html", "matches.jsonl", "reported.jsonl", "events.jsonl", "MANIFEST.json",
    "samples.jsonl", "results.json", "questions.jsonl", "vocab.txt",
}  # fmt: skip
SUFFIX = re.compile(r"[\w*]\.(py|sh|md|ya?ml|json|jsonl|toml|txt|png|jinja|safetensors)$")
FLAG = re.compile(r"(?<![\w-])--([A-Za-z][\w-]*)")
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:bash|python) ")
VARIABLE = re.compile(r"[A-Z][A-Z_]{2,}")

STAGE = [ModelArguments, DataArguments, AdapterArguments, SpeedArguments, RunArguments]
GROUPS: dict[str, list[type]] = {
    "pretraining.py": [*STAGE, SFTConfig, BlockArguments],
    "supervised_finetuning.py": [*STAGE, SFTConfig],
    "dpo_training.py": [*STAGE, DPOConfig],
    "merge_peft_adapter.py": [MergeArguments],
    "convert_chatglm.py": [ConversionArguments],
    "prepare_data.py": [PrepareArguments],
    "new_model.py": [NewModelArguments],
    "evaluation.py": [ModelArguments, EvaluationArguments],
    "report.py": [ReportArguments],
    "chat.py": [ModelArguments, ChatArguments, SamplingArguments, ServingArguments],
    "medtune/evaluation/summary.py": [SummaryArguments],
    "medtune/training/memory/__main__.py": [MemoryArguments, *STAGE, SFTConfig],
}
READERS = {
    "Text": text_from_row,
    "Conversations": conversation_from_row,
    "Preference pairs": preference_from_row,
}


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks_of(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, fenced blocks left out."""
    prose = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


@cache
def repo_files() -> frozenset[str]:
    """Every file and folder of the checkout by its path, without what is written or installed."""
    top = [path for path in REPO.iterdir() if path.name not in WRITTEN]
    below = [path for folder in top if folder.is_dir() for path in folder.rglob("*")]
    return frozenset(map(name_of, [*top, *below]))


# -- paths


def is_placeholder(name: str) -> bool:
    """True for what a reader fills in (`<p>`, `…`) and for absolute paths of his machine."""
    return name.startswith("/") or any(sign in name for sign in "<>…{}$ =")


def is_path(name: str) -> bool:
    """True for inline code that names a file or folder of the repository."""
    first = name.split("/")[0]
    if is_placeholder(name) or first in WRITTEN or name in RUN_FILES | NOT_YET | NOT_TO_BE:
        return False
    is_folder = bool(re.fullmatch(r"[\w./-]+/", name)) or ("/" in name and (REPO / first).is_dir())
    return is_folder or bool(SUFFIX.search(name))


def exists(name: str, page: Path) -> bool:
    """True if the path is there, seen from the root or from the page's folder, or as a pattern."""
    if "*" in name or ("/" not in name and page.parent != REPO):
        return any(fnmatch(Path(file).name, name) for file in repo_files())
    return (REPO / name).exists() or (page.parent / name).exists()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_in_a_page_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", read(page))
    local = [link for link in links if not link.startswith("https://")]

    assert [link for link in local if not (page.parent / link).exists()] == []
    assert [name for name in inline_code(page) if is_path(name) and not exists(name, page)] == []


def test_what_is_announced_is_not_there_yet() -> None:
    assert {name for name in NOT_YET | NOT_TO_BE if (REPO / name).exists()} == set()


def test_the_path_rule_sees_paths() -> None:
    seen = ["data/eval", "setup.sh", "configs/tiny/", "docs/run_folder.md", "*.txt"]
    passed_over = ["outputs/<p>-pt-v1", "/models/x", "ledger.json", "eval_rewards/chosen", ".jsonl"]

    assert all(map(is_path, seen))
    assert not any(map(is_path, passed_over))
    assert not exists("configs/large/", REPO / "README.md")


# -- commands


def commands_of(block: str) -> list[list[str]]:
    """The words of each command, continued lines joined and comments left out."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def script_of(words: list[str]) -> tuple[str, list[str]] | None:
    """The script of ours that a command starts, and the words after it."""
    for number, word in enumerate(words):
        if word == "-m" and words[number + 1].startswith("medtune."):
            path = words[number + 1].replace(".", "/")
            is_package = (REPO / path).is_dir()
            return f"{path}/__main__.py" if is_package else f"{path}.py", words[number + 2 :]
        if word.endswith((".py", ".sh")):
            return word, words[number + 1 :]
    return None


@cache
def accepted_flags(script: str) -> frozenset[str]:
    """Every option name that a script takes, those of older scripts included."""
    if script in GROUPS:
        parser = StageParser(GROUPS[script], allow_abbrev=False)
        names = parser.option_names() | {"config"}
        old = {name for name, new in RENAMED.items() if new in names}
        return frozenset(names | old | OBSOLETE.keys() | IMPOSSIBLE.keys())
    source = read(REPO / script)
    launched = re.search(r"^(?:launch|start|stage) (\w+\.py)", source, re.MULTILINE)
    if launched and '"$@"' in source:
        return accepted_flags(launched[1])
    return frozenset(FLAG.findall(source)) if script.endswith(".py") else frozenset()


def unknown_flags(script: str, words: list[str]) -> list[str]:
    found = [match[1].replace("-", "_") for word in words if (match := FLAG.match(word))]
    return [f"{script} --{name}" for name in found if name not in accepted_flags(script)]


def problems_of(words: list[str]) -> list[str]:
    """What is wrong with a command that starts one of our scripts."""
    started = script_of(words)
    if started is None:
        return []
    script, rest = started
    if not (REPO / script).is_file():
        return [f"no {script}"]
    problems = unknown_flags(script, rest)
    for flag, value in zip(rest, rest[1:], strict=False):
        if flag in ("--config", "--deepspeed") and not (REPO / value).is_file():
            problems.append(f"no {value}")
    return problems


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_a_page_start(page: Path) -> None:
    blocks = blocks_of(page, "bash") + blocks_of(page, "sh")
    commands = [words for block in blocks for words in commands_of(block)]
    inline = [code for code in inline_code(page) if COMMAND.match(code)]
    commands += [words for code in inline for words in commands_of(code.split("…")[0])]

    assert [problem for words in commands for problem in problems_of(words)] == []


def test_a_command_that_cannot_start_is_found() -> None:
    assert problems_of(["bash", "run_none.sh"]) == ["no run_none.sh"]
    assert problems_of(["bash", "run_sft.sh", "--block_size", "8"]) == ["run_sft.sh --block_size"]
    assert problems_of(["bash", "run_all.sh", "--seed", "1"]) == ["run_all.sh --seed"]
    assert problems_of(["python", "pretraining.py", "--config", "x.yaml"]) == ["no x.yaml"]
    assert problems_of(["NPROC=2", "bash", "run_pt.sh", "--block_size", "8"]) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_in_the_prose_of_a_page_exist(page: Path) -> None:
    others = ("data/build_data.py", "bench/run.py", "medtune/lineage/__main__.py")
    known = frozenset().union(*map(accepted_flags, (*GROUPS, *others)))
    prose = [code for code in inline_code(page) if code.startswith("--")]
    flags = [match[1] for code in prose if (match := FLAG.match(code))]

    assert [flag for flag in flags if flag.replace("-", "_") not in known] == []


@pytest.mark.parametrize("script", GROUPS)
def test_flags_in_the_docstring_of_a_script_exist(script: str) -> None:
    text = ast.get_docstring(ast.parse(read(REPO / script))) or ""
    flags = [f"--{flag}" for flag in FLAG.findall(text)]

    assert flags
    assert unknown_flags(script, flags) == []
    assert [p for words in commands_of(text_commands(text)) for p in problems_of(words)] == []


def text_commands(text: str) -> str:
    """The indented lines of a docstring, which are commands."""
    return "\n".join(line for line in text.splitlines() if line.startswith("    "))


@pytest.mark.parametrize("script", sorted(REPO.glob("run_*.sh")), ids=name_of)
def test_commands_in_the_head_of_a_run_script_start(script: Path) -> None:
    lines = read(script).split("set -euo")[0].splitlines()
    commands = [re.split(r" {3,}", line.removeprefix("#   "))[0] for line in lines]
    indented = [c for c, line in zip(commands, lines, strict=True) if line.startswith("#   ")]

    assert indented
    problems = [problems_of(words) for line in indented for words in commands_of(line)]
    assert [p for p in problems if p and script.name != "run_tests.sh"] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_environment_variables_are_read_somewhere(page: Path) -> None:
    sources = [REPO / "setup.sh", REPO / "scripts/stage.sh", *(REPO / "medtune").rglob("*.py")]
    sources += (REPO / "recipes").glob("*/run.sh")
    known = "\n".join(map(read, sources))
    code = inline_code(page) + blocks_of(page, "bash")
    set_in_code = [name for text in code for name in re.findall(r"\b([A-Z][A-Z_]+)=", text)]
    alone = [text for text in inline_code(page) if VARIABLE.fullmatch(text)]
    names = {*set_in_code, *alone} - RUN_FILES - {"NOT_COMPARED"}

    assert {name for name in names if not re.search(rf"\b{name}\b", known)} == set()


# -- data formats


def examples() -> list[tuple[str, str]]:
    """(section, JSON) of every example in docs/data_formats.md."""
    sections = re.split(r"^## ", read(FORMATS), flags=re.MULTILINE)[1:]
    pattern = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (section.splitlines()[0], text) for section in sections for text in pattern.findall(section)
    ]


def test_every_section_of_rows_has_examples() -> None:
    assert {section for section, _ in examples()} == set(READERS)
    assert len(examples()) == len(blocks_of(FORMATS, "json"))


@pytest.mark.parametrize(("section", "text"), examples())
def test_example_is_read(section: str, text: str) -> None:
    row = json.loads(text)

    assert len(text.splitlines()) == 1, "a row of a .jsonl file stands on one line"
    READERS[section](row, Source("docs/data_formats.md", 1))


def reasons_in_code() -> dict[str, str]:
    """Each reason that the code gives, with its kind by the class that carries it."""
    kinds = {"RowError": "rule", "MalformedRow": "malformed", "Reject": "other"}
    reasons: dict[str, str] = {}
    for path in sorted((REPO / "medtune/data").rglob("*.py")):
        tree = ast.parse(read(path))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in kinds:
                kind = kinds[node.func.id]  # type: ignore[attr-defined]
                argument = node.args[1 if kind == "other" else 0]
                reasons |= dict.fromkeys(strings_of(argument, constants), kind)
    return reasons


def strings_of(node: Any, constants: dict[str, Any]) -> list[str]:
    """The texts that an expression may be: a literal, a constant's value, either of two."""
    if isinstance(node, ast.IfExp):
        return [*strings_of(node.body, constants), *strings_of(node.orelse, constants)]
    if isinstance(node, ast.Name) and node.id in constants:
        return strings_of(constants[node.id], constants)
    return [node.value] if isinstance(node, ast.Constant) else []


def test_table_of_reasons_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (malformed|rule|other) \|", read(FORMATS), re.MULTILINE)

    assert len(dict(rows)) == len(rows)
    assert dict(rows) == reasons_in_code()


# -- run folders


def first_cells(heading: str) -> set[str]:
    """The names in the first column of the tables below a heading of docs/run_folder.md."""
    section = read(REPO / "docs/run_folder.md").split(f"### {heading}\n")[1].split("\n#")[0]
    return {name for cell in re.findall(r"^\| (`.*?) \|", section, re.M) for name in names_in(cell)}


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_inputs_of_a_lineage_are_documented() -> None:
    inputs = describe_inputs("pretraining", {}, {}, {}, {})

    documented = first_cells("lineage.json")
    beside = {"run_id", "changes", "code", "packages", "outputs"}
    assert {f"inputs.{key}" for key in inputs} | beside == documented


def test_keys_of_a_ledger_are_documented() -> None:
    counts = ledger_of(Loaded([], read_conversation_file, np.zeros(0), [], [], []))
    none = Dataset.from_list([])
    ledger = mix_rows(Rows(none, none, counts), {}, 0).ledger

    documented = {name for name in first_cells("ledger.json") if not name.startswith(".")}
    assert {name.split(".")[0] for name in documented} - {"balanced"} == set(ledger)
    rows = {name.split(".")[1] for name in documented if name.startswith("rows.")}
    assert rows == set(ledger["rows"])


# -- the two languages


def test_readme_is_short() -> None:
    assert len(read(REPO / "README.md").splitlines()) <= MAX_README_LINES


def test_both_readmes_say_the_same() -> None:
    one, other = REPO / "README.md", REPO / "README_zh.md"

    def shape(page: Path) -> list[str]:
        """Headings, table rows and fences, in order, without their words."""
        return re.findall(r"^(?:#+(?= )|\||```\w*|[A-Z]+_TABLE$)", read(page), re.MULTILINE)

    assert shape(one) == shape(other)
    for found in (FLAG.findall, re.compile(r"\]\(([^)]+)\)").findall):
        assert sorted(set(found(read(one)))) == sorted(set(found(read(other))))
    assert [commands_of(block) for block in blocks_of(one, "bash")] == [
        commands_of(block) for block in blocks_of(other, "bash")
    ]
