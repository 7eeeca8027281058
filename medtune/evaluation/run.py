"""One evaluation from options to results: what is measured, by what, and what it says."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval.api.model
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase, set_seed

from medtune.arguments import HF, EvaluationArguments, ModelArguments
from medtune.common.errors import ConfigError, RegressionError
from medtune.common.lineage import describe_data, describe_tokenizer, describe_weights
from medtune.common.log import is_main_process, logger
from medtune.common.memory import peak_memory_bytes
from medtune.data.reading import SUFFIXES, find_files
from medtune.data.rendering import ChatRenderer
from medtune.evaluation.asking.judge import Judge
from medtune.evaluation.asking.language_model import END_OF_TURN, ChatModel, Limits
from medtune.evaluation.engine import Stopwatch, run_task, summarize
from medtune.evaluation.results.comparison import compare, find_regressions
from medtune.evaluation.results.folder import EvaluationFolder, read_results
from medtune.evaluation.results.showing import print_comparison, print_results
from medtune.evaluation.tasks.base import TaskOptions
from medtune.evaluation.tasks.cmb_exam import CmbExam, read_questions
from medtune.evaluation.tasks.table import BENCHMARKS, choose_tasks
from medtune.models.adapters import count_parameters, load_adapter
from medtune.models.families import family_of, stop_token_ids
from medtune.models.loading import load_model, load_tokenizer, resolve_model

CPU_TOKENS, GPU_TOKENS = 1024, 8192  # of a batch: more of them are slower on a CPU (measured)
LONGEST = 8192  # tokens of context where the model allows more, unless --max_length says so
NOT_COMPARED = {
    "output_dir", "baseline", "fail_on_regression", "regression_tasks", "tokens_per_batch",
    "cache_dir", "model_name_or_path", "adapter", "data_dir", "hub_datasets", "judge_url",
}  # fmt: skip


def run_evaluation(model_arguments: ModelArguments, arguments: EvaluationArguments) -> None:
    """Measure a model, print the numbers, and compare them with --baseline.

    Raises RegressionError if --fail_on_regression asks for it.
    """
    paths = choose_tasks(arguments.tasks, arguments.data_dir, arguments.hub_names())
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
    watch = Stopwatch()
    PartialState().wait_for_everyone()  # until all have looked at the folder as it was
    if is_main_process():
        folder.open()
    PartialState().wait_for_everyone()
    benchmarks = {
        name: BENCHMARKS[name].read(path)[: arguments.limit] for name, path in paths.items()
    }
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(model_arguments)
    model, about = load_language_model(model_arguments, arguments, tokenizer)
    options = task_options(arguments, model, tokenizer)
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
        task_watch, before = Stopwatch(), getattr(model, "num_truncated", 0)
        kind = BENCHMARKS[name]
        build = partial(kind, options=options, examples=examples)
        counted = run_task(name, docs, build, model, folder)
        truncated = gather_object([getattr(model, "num_truncated", 0) - before])
        if is_main_process():
            found = summarize(kind, counted)
            found["truncated"] = sum(truncated)
            found["seconds"] = task_watch.seconds
            results["tasks"][name] = found
            folder.keep(name, results)
            say_result(name, found)
    if is_main_process():
        results["seconds"] = watch.seconds
        results["peak_memory_bytes"] = peak_memory_bytes()
        folder.close(results)
    return results


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
        "tokenizer": describe_tokenizer(
            resolve_model(model_arguments.tokenizer_name_or_path or name)
        ),
        "data": describe_data(sorted(files)),
    }


def load_language_model(
    model_arguments: ModelArguments,
    arguments: EvaluationArguments,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[lm_eval.api.model.LM, dict[str, Any]]:
    """Return the model as lm-eval asks it, and what results.json says of it."""
    about: dict[str, Any] = {
        "path": model_arguments.model_name_or_path,
        "adapter": arguments.adapter,
        "num_parameters": None,
    }
    if arguments.backend != HF:
        return load_backend(model_arguments, arguments), about
    model: Any = load_model(model_arguments)
    if arguments.adapter:
        model = load_adapter(model, arguments.adapter)
    model = model.eval().to(PartialState().device)
    about["num_parameters"] = count_parameters(model)[1]
    renderer = None
    if arguments.apply_chat_template:
        renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
        model.generation_config.eos_token_id = stop_token_ids(tokenizer, set())
    on_gpu = model.device.type == "cuda"
    tokens = arguments.tokens_per_batch or (GPU_TOKENS if on_gpu else CPU_TOKENS)
    longest = getattr(model.config, "max_position_embeddings", LONGEST)
    max_length = arguments.max_length or min(longest, LONGEST)
    if max_length > longest:
        raise ConfigError(
            f"--max_length: expected at most the model's {longest:,} tokens, found {max_length:,}."
        )
    stride = arguments.stride
    if stride is not None and stride > max_length:
        raise ConfigError(f"--stride: expected at most --max_length {max_length}, found {stride}.")
    limits = Limits(max_length, tokens, stride or max_length, arguments.seed)
    return ChatModel(model, tokenizer, renderer, limits), about


def load_backend(
    model_arguments: ModelArguments, arguments: EvaluationArguments
) -> lm_eval.api.model.LM:
    """Return one of lm-eval's own models. Raises ConfigError if what it needs is missing."""
    from lm_eval.api.registry import get_model

    words = [f"pretrained={resolve_model(model_arguments.model_name_or_path)}", "seed=0"]
    words += [arguments.backend_args] if arguments.backend_args else []
    try:
        return get_model(arguments.backend).create_from_arg_string(",".join(words))
    except (ImportError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"--backend {arguments.backend}: expected its package, found none ({error}); install "
            "it, or leave the option out."
        ) from error


def task_options(
    arguments: EvaluationArguments, model: lm_eval.api.model.LM, tokenizer: PreTrainedTokenizerBase
) -> TaskOptions:
    """Return how the benchmarks are asked."""
    generation: dict[str, Any] = {"max_gen_toks": arguments.max_new_tokens}
    if arguments.do_sample:
        generation |= {
            "do_sample": True, "temperature": arguments.temperature, "top_p": arguments.top_p,
        }  # fmt: skip
    if arguments.repetition_penalty is not None:
        generation["repetition_penalty"] = arguments.repetition_penalty
    is_ours = isinstance(model, ChatModel)
    return TaskOptions(
        is_chat=arguments.apply_chat_template,
        num_fewshot=arguments.num_fewshot,
        seed=arguments.seed,
        chain_of_thought=arguments.chain_of_thought,
        generation=generation,
        end_of_turn=END_OF_TURN if is_ours and arguments.apply_chat_template else "",
        count_tokens=lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
        grade=Judge(arguments.judge_url, str(arguments.judge_model))
        if arguments.judge_url
        else None,
    )


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
    found = examples or asked
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
