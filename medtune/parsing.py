"""From `--config FILE.yaml` and flags to option objects: nothing misspelt gets through.

The YAML is read first and flags after it, so a flag wins; a name that no class declares stops the
run with the nearest one. Names of older scripts are accepted where they mean the same.
"""

import difflib
import json
from argparse import SUPPRESS, ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool

from medtune.arguments import (
    AUTO,
    AdapterArguments,
    BlockArguments,
    DataArguments,
    ModelArguments,
    RunArguments,
    SpeedArguments,
    StageArguments,
    TrainingT,
)
from medtune.arguments.older_names import IMPOSSIBLE, OBSOLETE, RENAMED, UNREAD
from medtune.common.errors import ConfigError
from medtune.common.log import logger

NO_OUTPUT_DIR = "not given"  # the trainers would write to a folder of their own choice

# Options that the trainers own, with the defaults that suit this project better than theirs.
DEFAULTS = {
    "output_dir": NO_OUTPUT_DIR,
    "report_to": ["tensorboard"],
    "logging_steps": 1.0,
    "logging_first_step": True,
    "disable_tqdm": True,  # medtune prints its own progress lines
    "eval_strategy": "epoch",
    "eval_on_start": True,  # so that every curve shows where it began
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "lr_scheduler_type": "cosine",
    "ddp_find_unused_parameters": False,
    "gradient_checkpointing": AUTO if torch.cuda.is_available() else False,
    "bf16": torch.cuda.is_available(),
    "use_cpu": not torch.cuda.is_available(),  # without it several processes do not find each other
    "dataloader_pin_memory": torch.cuda.is_available(),
}

FALSE = ("false", "no", "n", "f", "0")


# The trainers' two names of one option; to them it is a bool.
CHECKPOINTING = {"gradient_checkpointing", "activation_checkpointing"}


class StageParser(HfArgumentParser):
    """HfArgumentParser that knows no abbreviations and answers mistakes with a remedy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the dataclasses; gradient_checkpointing may also be 'auto'."""
        super().__init__(*args, **kwargs)
        for action in self._actions:
            if action.dest in CHECKPOINTING and action.type:
                action.type = bool_or_auto
                action.help = (
                    "Recompute the layers in the backward pass instead of keeping what they "
                    "computed: True all, False none, auto as many as the memory at hand demands."
                )

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing the whole usage and leaving."""
        raise ConfigError(f"{message}. `--help` lists every option.")

    def option_names(self) -> set[str]:
        """Return every accepted option name, with underscores."""
        return {name.lstrip("-").replace("-", "_") for name in self._option_string_actions}


def bool_or_auto(word: str) -> bool | str:
    """Return 'auto' as it is, and any other word as the bool that it means."""
    if str(word).lower() == AUTO:
        return AUTO
    try:
        return string_to_bool(word)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"expected true, false or auto, found {word!r}") from error


def parse_arguments(
    argv: list[str], training_type: type[TrainingT], with_blocks: bool = False
) -> StageArguments[TrainingT]:
    """Parse `--config` and flags into a StageArguments.

    training_type: SFTConfig or DPOConfig.   with_blocks: True for pretraining.
    Raises ConfigError: unknown name (with the nearest real one and, for YAML, `file:line`), a value
    of the wrong type, clashing options, a configuration file that cannot be read.
    """
    groups: list[type] = [
        ModelArguments, DataArguments, AdapterArguments, SpeedArguments, RunArguments,
        training_type,
    ]  # fmt: skip
    model, data, adapter, speed, run, training, *blocks = parse_into(
        argv, groups + [BlockArguments] * with_blocks, DEFAULTS
    )
    if training.output_dir == NO_OUTPUT_DIR:
        raise ConfigError("--output_dir: expected the folder to write to, found none.")
    check_precision(training)
    return StageArguments(model, data, adapter, speed, training, run, *blocks)


def parse_into(argv: list[str], groups: list[type], defaults: dict[str, Any]) -> tuple[Any, ...]:
    """Return one instance of each dataclass, filled from `--config`, then from flags.

    Raises ConfigError as `parse_arguments` says.
    """
    parser = StageParser(groups, allow_abbrev=False)
    parser.add_argument(
        "--config", default=SUPPRESS, help="YAML file with any of these options; flags win over it."
    )
    parser.set_defaults(**defaults)
    argv, config = take_config(argv)
    from_yaml = list(read_yaml_as_flags(Path(config), parser)) if config else []
    flags = list(current_flags(argv, parser))
    words = without_foreign_validation(from_yaml, flags) + flags
    words += meant_strategies(words, parser)
    try:
        *parsed, rest = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, TypeError, ImportError) as error:  # the trainers' own checks
        raise ConfigError(f"these options do not go together: {error}") from error
    if rest:
        raise ConfigError(f"unexpected word {rest[0]!r}: options start with --")
    return tuple(parsed)


def without_foreign_validation(from_yaml: list[str], flags: list[str]) -> list[str]:
    """Return the YAML's words without its validation data if flags replace its training data.

    Other training data measured on the validation data of the YAML's own would say nothing.
    """
    names = {flag.partition("=")[0].replace("-", "_") for flag in flags}
    if "__train_file_dir" not in names or "__validation_file_dir" in names:
        return from_yaml
    kept = [word for word in from_yaml if not word.startswith("--validation_file_dir=")]
    if len(kept) < len(from_yaml):
        logger.info("--train_file_dir is given: validation is split from it, not the YAML's")
    return kept


def meant_strategies(words: list[str], parser: StageParser) -> list[str]:
    """Return the flags that make --save_steps and --eval_steps count where no strategy is given.

    The older scripts counted steps by default, so their commands name no strategy.
    """
    names = {word.partition("=")[0].replace("-", "_") for word in words}
    return [
        f"--{what}_strategy=steps"
        for what in ("save", "eval")
        if f"__{what}_steps" in names
        and f"__{what}_strategy" not in names
        and f"{what}_strategy" in parser.option_names()
    ]


def take_config(argv: list[str]) -> tuple[list[str], str | None]:
    """Return argv without `--config FILE`, and FILE. Raises ConfigError if FILE is not named."""
    rest, config = [], None
    words = iter(argv)
    for word in words:
        if word.partition("=")[0] != "--config":
            rest.append(word)
            continue
        if config is not None:
            raise ConfigError("--config: expected it once, found it twice; put both in one file.")
        config = word.partition("=")[2] or next(words, None)
        if config is None:
            raise ConfigError("--config: expected the path of a YAML file after it.")
    return rest, config


def current_flags(argv: list[str], parser: StageParser) -> Iterator[str]:
    """Yield argv with every flag under its present name; obsolete ones go with their value.

    Raises ConfigError as current_name does, and for two names of one option.
    """
    is_value_of_obsolete = False
    given: dict[str, str] = {}
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        if is_value_of_obsolete and not word.startswith("--"):
            continue
        flag = current_name(word, parser, value=following)
        is_value_of_obsolete = not flag and "=" not in word
        if not flag:
            continue
        if flag.startswith("--"):
            old, new = (name.partition("=")[0].replace("-", "_") for name in (word, flag))
            if given.setdefault(new, old) != old:
                both = " and ".join(f"--{name.strip('_')}" for name in (given[new], old))
                raise ConfigError(f"{both} are two names of one option: give one of them.")
        yield flag


def current_name(word: str, parser: StageParser, where: str = "", value: str = "") -> str:
    """Return a flag under its present name; "" for an obsolete one. Raises ConfigError if unknown.

    value: what follows it, where it is not in the word itself.
    Example: "--model_max_length=512" -> "--max_length=512".
    """
    if not word.startswith("--"):
        return word
    flag, equals, own = word.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    known = parser.option_names()
    value = own if equals else value
    if name in IMPOSSIBLE and value.lower() not in FALSE:
        raise ConfigError(f"{where}--{name} is not possible here: {IMPOSSIBLE[name]}.")
    reason = UNREAD.get(name) or IMPOSSIBLE.get(name) or (name not in known and OBSOLETE.get(name))
    if reason:
        logger.warning("%s--%s has no effect here: %s.", where, name, reason)
        return ""
    new = RENAMED.get(name, name)
    if name not in known and new in known:
        return f"--{new}{equals}{own}"
    if name not in known:
        near = difflib.get_close_matches(name, known | set(RENAMED), n=1, cutoff=0.5)
        hint = f"did you mean --{near[0]}?" if near else "`--help` lists every option."
        raise ConfigError(f"{where}unknown option --{name}: {hint}")
    return word


def read_yaml_as_flags(path: Path, parser: StageParser) -> Iterator[str]:
    """Turn a YAML mapping into flags, so that both go through the same checks.

    Example: `learning_rate: 1e-4` -> "--learning_rate=1e-4"; null leaves the default.
    Raises ConfigError with `file:line`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: expected a readable YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of options, found {type(values).__name__}.")
    lines: dict[str, int] = {}
    for key in [key for key, _ in tree.value] if tree else []:
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ConfigError(
                f"{path}:{line}: {key.value} stands here and in line {lines[key.value]}; keep one."
            )
        lines[key.value] = line
    for name, value in values.items():
        where = f"{path}:{lines.get(str(name), 1)}: "
        flag = current_name(f"--{name}", parser, where, as_word(value))
        if value is None or not flag:
            continue
        if isinstance(value, list):
            yield flag
            yield from (str(item) for item in value)
        else:
            yield f"{flag}={as_word(value)}"


def as_word(value: Any) -> str:
    """Return a YAML value as a flag's word; YAML reads `no` as False, which is both in one here."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def check_precision(training: TrainingArguments) -> None:
    """Refuse float16, in which GLM-4 overflows to NaN."""
    if training.fp16 or training.fp16_full_eval:
        raise ConfigError(
            "--fp16: expected bf16 or full float32, found float16, in which GLM overflows to NaN; "
            "use --bf16 True on a GPU that has it, or --bf16 False for float32."
        )
