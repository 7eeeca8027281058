"""Who may import whom, how long files may be, and that the three stages line up without pasting.

Reference: the layers: common < arguments < parsing < data, models, safety < training, evaluation,
chat, lineage < report < scripts; siblings do not import each other. All is read from the source,
nothing is run.
"""

import ast
import sys
from importlib.metadata import packages_distributions
from itertools import combinations
from pathlib import Path

import pytest

from tests.conftest import REPO

LAYERS = (
    ("common",),
    ("arguments",),
    ("parsing",),
    ("data", "models", "safety"),
    ("training", "evaluation", "chat", "lineage"),
    ("report",),  # shows what evaluations measured beside the lineage of their models
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted((REPO / "medtune").rglob("*.py"))
SCRIPTS = sorted(REPO.glob("*.py"))
STAGES = [REPO / f"{n}.py" for n in ("pretraining", "supervised_finetuning", "dpo_training")]
MAX_EQUAL_LINES, MAX_SCRIPT_LINES, MAX_MAIN_LINES, MAX_MODULE_LINES = 5, 110, 45, 300
LOWEST_SPECIAL_ID = 151329  # <|endoftext|> of GLM-4; the other special tokens follow it


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, at any depth of its code."""
    package = path.relative_to(REPO).parts[:-1]
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def layers_imported(path: Path) -> set[str]:
    """Names of medtune's layers that a file imports from."""
    parts = [name.split(".") for name in imports_of(path)]
    return {p[1] for p in parts if p[0] == "medtune" and len(p) > 1 and p[1] in RANK}


def layer_of(path: Path) -> str:
    return path.relative_to(REPO / "medtune").with_suffix("").parts[0]


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer_of(path) for path in MODULES} - {"__init__"} <= set(RANK)
    assert layers_imported(REPO / "medtune/__init__.py") == set()


@pytest.mark.parametrize("path", [p for p in MODULES if layer_of(p) in RANK], ids=name_of)
def test_module_imports_lower_layers_and_its_own_alone(path: Path) -> None:
    own = layer_of(path)
    wrong = {name for name in layers_imported(path) if name != own and RANK[name] >= RANK[own]}

    assert wrong == set()


def test_the_import_check_sees_every_way_to_import() -> None:
    assert layers_imported(REPO / "medtune/training/trainers.py") == {
        "arguments",
        "common",
        "data",
        "models",
        "training",
    }
    assert layers_imported(REPO / "pretraining.py") == {
        "arguments",
        "common",
        "data",
        "models",
        "parsing",
        "training",
    }


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_nothing_imports_a_script(path: Path) -> None:
    scripts = {script.stem for script in SCRIPTS}

    assert {name.split(".")[0] for name in imports_of(path)} & scripts == set()


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_imports_of_the_project_are_absolute(path: Path) -> None:
    levels = [node.level for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]

    assert set(levels) <= {0}


# -- names


def test_no_file_is_a_box_for_anything() -> None:
    names = {path.stem for path in [*MODULES, *SCRIPTS]}

    assert not names & {"utils", "util", "misc", "helpers", "common_utils"}


def test_no_file_or_folder_beside_the_scripts_shadows_a_library() -> None:
    """A script's folder comes first on sys.path: evaluate.py there would be `import evaluate`."""
    installed = set(packages_distributions()) | set(sys.stdlib_module_names)
    libraries = installed | {"evaluate", "datasets", "peft", "tokenizers", "trl", "deepspeed"}
    importable = {path.stem for path in SCRIPTS}
    importable |= {path.parent.name for path in REPO.glob("*/*.py")} - {"tests"}

    assert {"medtune", "pretraining"} <= importable
    assert importable & (libraries - {"medtune"}) == set()


def test_no_module_takes_the_name_of_a_library() -> None:
    names = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}

    assert not names & {"evaluate", "datasets", "peft", "tokenizers", "transformers", "trl"}


# -- size


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_stage_script_fits_a_screen_or_two(path: Path) -> None:
    (main,) = [
        node
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    ]
    assert main.end_lineno is not None

    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_SCRIPT_LINES
    assert main.end_lineno - main.lineno + 1 <= MAX_MAIN_LINES
    assert not [node for node in ast.walk(main) if isinstance(node, ast.FunctionDef)][1:]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_not_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES


# -- copies


def code_lines(path: Path) -> list[str]:
    """The lines of a file without blank lines, imports and docstrings."""
    tree = tree_of(path)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        line.strip()
        for number, line in enumerate(lines, start=1)
        if line.strip() and number not in left_out
    ]


def longest_common_run(one: list[str], other: list[str]) -> list[str]:
    """The longest run of lines that both have."""
    for length in range(min(len(one), len(other)), 0, -1):
        runs = {tuple(other[n : n + length]) for n in range(len(other) - length + 1)}
        for start in range(len(one) - length + 1):
            if tuple(one[start : start + length]) in runs:
                return one[start : start + length]
    return []


def test_longest_common_run_finds_it() -> None:
    assert longest_common_run(list("abcdef"), list("xcdey")) == ["c", "d", "e"]
    assert longest_common_run(list("abc"), list("abc")) == ["a", "b", "c"]
    assert longest_common_run(list("abc"), list("xyz")) == []


@pytest.mark.parametrize(("one", "other"), combinations(STAGES, 2), ids=name_of)
def test_stages_share_no_six_lines(one: Path, other: Path) -> None:
    run = longest_common_run(code_lines(one), code_lines(other))

    assert len(run) <= MAX_EQUAL_LINES, "\n".join(run)


# -- special tokens


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_special_tokens_are_named_not_numbered(path: Path) -> None:
    numbers = [
        node.value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and type(node.value) is int
    ]

    assert [number for number in numbers if number >= LOWEST_SPECIAL_ID] == []
