"""All benchmarks by name, and where each one's data is."""

from pathlib import Path

from medtune.arguments import ALL_TASKS
from medtune.common.errors import ConfigError, DataError
from medtune.common.log import logger
from medtune.data.hub import downloaded
from medtune.evaluation.tasks.base import Benchmark
from medtune.evaluation.tasks.cmb_clin import CmbClin
from medtune.evaluation.tasks.cmb_exam import CmbExam, CmbExamGenerate, CmbExamText
from medtune.evaluation.tasks.preference import Preference
from medtune.evaluation.tasks.promptcblue import PromptCblue
from medtune.evaluation.tasks.replies import Replies, RougeBleu
from medtune.evaluation.tasks.safety import Safety
from medtune.evaluation.tasks.texts import AnswerPerplexity, Perplexity

BENCHMARKS: dict[str, type[Benchmark]] = {
    benchmark.name: benchmark
    for benchmark in (
        Perplexity, AnswerPerplexity, CmbExam, CmbExamText, CmbExamGenerate, CmbClin, PromptCblue,
        RougeBleu, Preference, Safety, Replies,
    )
}  # fmt: skip


def choose_tasks(names: list[str], data_dir: str, hub_names: dict[str, str]) -> dict[str, Path]:
    """Return the benchmarks to run and the files of each; `all`: those with data in data_dir.

    Raises ConfigError for a name that is none, DataError where data is missing.
    """
    for name in [*names, *hub_names]:
        if name not in (ALL_TASKS, *BENCHMARKS):
            raise ConfigError(
                f"--tasks: expected some of {', '.join([ALL_TASKS, *BENCHMARKS])}, found {name!r}."
            )
    if not Path(data_dir).is_dir():
        raise DataError(f"--data_dir {data_dir}: expected a folder, found none.")
    if ALL_TASKS in names:
        names = [name for name in BENCHMARKS if local(name, data_dir).exists() or name in hub_names]
        missing = sorted(BENCHMARKS.keys() - set(names))
        if missing:
            logger.warning("no data in %s for: %s", data_dir, ", ".join(missing))
    if not names:
        raise DataError(f"--data_dir {data_dir}: expected data of a benchmark, found none.")
    return {name: find_data(name, data_dir, hub_names.get(name)) for name in dict.fromkeys(names)}


def local(name: str, data_dir: str) -> Path:
    """Return where a benchmark's data would be."""
    return Path(data_dir) / BENCHMARKS[name].folder


def find_data(name: str, data_dir: str, hub_name: str | None) -> Path:
    """Return a benchmark's files: those of a named hub data set, local ones, the hub's own."""
    path = local(name, data_dir)
    if hub_name is None and path.exists():
        return path
    hub_name = hub_name or BENCHMARKS[name].hub_name
    if hub_name is None:
        raise DataError(
            f"{path}: expected the data of {name}, found nothing there; see docs/evaluation.md "
            f"for its form, or name a data set of the hub: --hub_datasets {name}=ORG/NAME."
        )
    logger.info("%s: nothing in %s, asking the hub for %s", name, path, hub_name)
    return downloaded(hub_name)
