"""One evaluation from options to results: what is measured, by what, and what it says."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import set_seed

from medtune.arguments import EvaluationArguments, ModelArguments, hub_names
from medtune.common.errors import ConfigError, DataError, RegressionError
from medtune.common.lineage import describe_data, describe_tokenizer, describe_weights
from medtune.common.log import is_main_process, logger
from medtune.common.memory import peak_memory_bytes
from medtune.data.reading import SUFFIXES, find_files
from medtune.evaluation.asking.language_model import ChatModel
from medtune.evaluation.engine import run_task, summarize
from medtune.evaluation.loading import find_judge, load_language_model, task_options
from medtune.evaluation.results.comparison import compare, find_regressions
from medtune.evaluation.results.folder import EvaluationFolder, read_results
from medtune.evaluation.results.showing import print_comparison, print_results
from medtune.evaluation.tasks.cmb_exam import CmbExam, read_questions
from medtune.evaluation.tasks.table import BENCHMARKS, choose_tasks
from medtune.models.loading import find_tokenizer, load_tokenizer, resolve_model

NOT_COMPARED = {
    "output_dir", "baseline", "fail_on_regression", "regression_tasks", "tokens_per_batch",
    "cache_dir", "model_name_or_path", "adapter", "data_dir", "hub_datasets", "judge_url",
}  # fmt: skip


def run_evaluation(model_arguments: ModelArguments, arguments: EvaluationArguments) -> None:
    """Measure a model, print the numbers, and compare them with --baseline.

    Raises RegressionError if --fail_on_regression asks for it.
    """
    # Without a GPU the processes of torchrun find each other only if they are told so.
    PartialState(cpu=not torch.cuda.is_available())
    paths = choose_tasks(arguments.tasks, arguments.data_dir, hub_names(arguments.hub_datasets))
    check_guarded(arguments, paths)
    inputs = describe_inputs(model_arguments, arguments, paths)
    folder = EvaluationFolder(Path(arguments.output_dir), inputs)
    if arguments.baseline:
        read_results(arguments.baseline)  # before hours of work
    if folder.is_complete:
        logger.info("%s is complete: nothing to do", folder.path)
        results = read_results(folder.path)
    else:
        results = measure_model(model_arguments, arguments, folder, paths)
    if not is_main_process():
        return
    print_results(results)
    if arguments.baseline:
        compare_with(arguments.baseline, arguments)


def measure_model(
    model_arguments: ModelArguments,
    arguments: EvaluationArguments,
    folder: EvaluationFolder,
    paths: Mapping[str, Path],
) -> dict[str, Any]:
    """Run the benchmarks that are not done, write everything, return the results."""
    started = time.monotonic()
    if judge := find_judge(arguments):
        judge.check()
    PartialState().wait_for_everyone()  # until all have looked at the folder as it was
    if is_main_process():
        folder.open()
    PartialState().wait_for_everyone()
    benchmarks = {name: read_items(name, path, arguments.limit) for name, path in paths.items()}
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(model_arguments, arguments.adapter)
    model, about = load_language_model(model_arguments, arguments, tokenizer)
    options = task_options(arguments, model, tokenizer, judge)
    results = folder.unfinished() or {
        "model": about,
        "options": folder.inputs["options"],
        "tasks": {},
    }
    for name, docs in benchmarks.items():
        if name in results["tasks"]:
            logger.info("%s: done before", name)
            continue
        examples = worked_examples(name, paths[name], arguments)
        task_started, before = time.monotonic(), getattr(model, "num_truncated", 0)
        kind = BENCHMARKS[name]
        build = partial(kind, options=options, examples=examples)
        counted = run_task(name, docs, build, model, folder)
        truncated = gather_object([getattr(model, "num_truncated", 0) - before])
        if is_main_process():
            found = summarize(kind, counted)
            found["truncated"] = sum(truncated)
            found["seconds"] = round(time.monotonic() - task_started, 2)
            results["tasks"][name] = found
            folder.keep(name, results)
            say_result(name, found)
    if is_main_process():
        results["seconds"] = round(time.monotonic() - started, 2)
        if isinstance(model, ChatModel) and model.seconds:
            results["tokens_per_second"] = round(model.num_tokens / model.seconds, 1)
        results["peak_memory_bytes"] = peak_memory_bytes()
        folder.close(results)
    return results


def check_guarded(arguments: EvaluationArguments, paths: Mapping[str, Path]) -> None:
    """Raise ConfigError if --fail_on_regression would have nothing to look at."""
    missing = sorted(set(arguments.regression_tasks) - set(paths))
    if arguments.fail_on_regression and missing:
        raise ConfigError(
            f"--regression_tasks: expected some of what is run ({', '.join(paths)}), found "
            f"{', '.join(missing)}."
        )


def read_items(name: str, path: Path, limit: int | None) -> list[dict[str, Any]]:
    """Return the items of a benchmark, each with an id of its own; of a limit, evenly spread ones.

    Files often come sorted by class: the first hundred would say little of the rest.
    Raises DataError if there are none.
    """
    docs = BENCHMARKS[name].read(path)
    if not docs:
        raise DataError(f"{path}: expected items of {name}, found none.")
    if limit is not None and limit < len(docs):
        docs = [docs[number * len(docs) // limit] for number in range(limit)]
    seen: Counter[str] = Counter()
    for doc in docs:
        seen[doc["id"]] += 1
        if seen[doc["id"]] > 1:  # two files may count from 1 both
            doc["id"] += f"#{seen[doc['id']]}"
    return docs


def describe_inputs(
    model_arguments: ModelArguments, arguments: EvaluationArguments, paths: Mapping[str, Path]
) -> dict[str, Any]:
    """Return what is measured on what, with hashes. Raises CheckpointError, DataError."""
    name = resolve_model(model_arguments.model_name_or_path)
    base = describe_weights(name)
    if arguments.adapter:
        base["adapter"] = describe_weights(arguments.adapter)
    options = {**asdict(model_arguments), **asdict(arguments), "tasks": sorted(paths)}
    files = {file for path in paths.values() for file in find_files(str(path), SUFFIXES)}
    return {
        "stage": "evaluation",
        "options": {name: value for name, value in options.items() if name not in NOT_COMPARED},
        "base": base,
        "tokenizer": describe_tokenizer(find_tokenizer(model_arguments, arguments.adapter)),
        "data": describe_data(sorted(files)),
    }


def worked_examples(name: str, path: Path, arguments: EvaluationArguments) -> list[dict[str, Any]]:
    """Return what worked examples are drawn from: example files, else the other questions.

    Raises ConfigError if a benchmark is asked for examples and has none to draw.
    """
    if not arguments.num_fewshot:
        return []
    if not issubclass(BENCHMARKS[name], CmbExam):
        logger.warning("%s is asked without worked examples: it has none", name)
        return []
    asked, examples = read_questions(path)
    found = [doc for doc in examples or asked if BENCHMARKS[name].can_be_example(doc)]
    if len(found) <= arguments.num_fewshot:
        raise ConfigError(
            f"--num_fewshot {arguments.num_fewshot}: expected more questions in {path}, found "
            f"{len(found)}."
        )
    return found


def compare_with(baseline: str, arguments: EvaluationArguments) -> None:
    """Print what changed since the baseline. Raises RegressionError."""
    rows = compare(baseline, arguments.output_dir)
    print_comparison(baseline, rows)
    missing = sorted(set(arguments.regression_tasks) - {row["task"] for row in rows})
    if arguments.fail_on_regression and missing:
        raise ConfigError(
            f"--baseline {baseline}: expected an evaluation with {', '.join(missing)} in it, found "
            "none; measure the baseline on the same benchmarks."
        )
    regressions = find_regressions(rows, arguments.regression_tasks)
    for row in regressions:
        logger.warning("worse than %s: %s %s", baseline, row["task"], row["metric"])
    if regressions and arguments.fail_on_regression:
        names = ", ".join(f"{row['task']} {row['metric']}" for row in regressions)
        raise RegressionError(
            f"--fail_on_regression: {names}: worse than in {baseline}; the intervals of the "
            "differences do not hold zero."
        )


def say_result(name: str, found: Mapping[str, Any]) -> None:
    """Log a benchmark's leading number."""
    metric, about = next(iter(found["metrics"].items()))
    value = "-" if about["value"] is None else f"{about['value']:.4g}"
    logger.info(
        "%s: %s %s over %s items in %.1f s",
        name, metric, value, f"{found['num_items']:,}", found["seconds"],
    )  # fmt: skip
