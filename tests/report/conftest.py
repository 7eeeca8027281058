"""A made-up chain on disk, and comparisons without the scorers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from medtune.report import comparing
from tests.report.building import compare_by_results, write_chain


@pytest.fixture(scope="module", autouse=True)
def _compare_by_results() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "compare", compare_by_results)
        yield


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What run_all.sh leaves, of a whole chain, below the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_chain(Path("outputs"))


@pytest.fixture(scope="module")
def whole_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same for tests that only read it."""
    yield write_chain(tmp_path_factory.mktemp("chain") / "outputs")
