"""A model to begin with: untrained from a configuration, or trained and without a chat template.

The folder is one that every stage takes as its base, with all weights to train. The same options
and files give the same bytes.
"""

import difflib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from medtune.arguments import WORDPIECE, NewModelArguments
from medtune.common.errors import ConfigError
from medtune.common.files import apply_umask, staged_folder
from medtune.common.lineage import (
    LINEAGE_FILE,
    describe_data,
    describe_outputs,
    describe_weights,
    is_already_made,
    mark_complete,
    write_lineage,
)
from medtune.common.log import logger
from medtune.models.loading import load_weights, read_tokenizer, resolve_model
from medtune.models.vocabularies import (
    add_question_answer,
    count_vocabulary,
    read_vocabulary,
    train_byte_pairs,
    wordpiece_tokenizer,
)

STAGE = "new model"
VOCABULARY_FILE = "vocab.txt"
# What a config.json holds beside the network.
OF_THE_LIBRARY = {"architectures", "dtype", "torch_dtype", "transformers_version"}


def write_new_model(arguments: NewModelArguments, files: list[Path], texts: Iterable[str]) -> None:
    """Write the model folder that the options describe; one that is complete is left as it is.

    files: those that `texts` come from; nothing is read of them if the folder is complete.
    Raises ConfigError, DataError and CheckpointError for what the options name.
    """
    started = time.monotonic()
    output = Path(arguments.output_dir)
    inputs = describe(arguments, files)
    if is_already_made(output, inputs, "model"):
        logger.info("%s is complete: nothing to do", output)
        return
    if arguments.model_config is None:
        model, tokenizer = model_with_template(arguments)
    else:
        config = read_model_config(Path(arguments.model_config))
        tokenizer = new_tokenizer(arguments, texts)
        model = untrained_model(arguments, config, tokenizer)
    with staged_folder(output) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        if arguments.tokenizer == WORDPIECE:
            names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
            (staging / VOCABULARY_FILE).write_text("\n".join(names) + "\n", encoding="utf-8")
        write_lineage(staging / LINEAGE_FILE, inputs, describe_outputs(staging))
        apply_umask(staging)
        mark_complete(staging, stage=STAGE, seconds=round(time.monotonic() - started, 1))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    sizes = (f"{n:,}" for n in (num_parameters, len(tokenizer), model.config.vocab_size))
    logger.info("complete: %s  (%s parameters, %s tokens in %s rows)", output, *sizes)


def describe(arguments: NewModelArguments, files: list[Path]) -> dict[str, Any]:
    """Return what decides the folder's bytes. Raises ConfigError for a file that is missing."""
    named = [name for name in (arguments.model_config, arguments.vocab_file) if name is not None]
    for name in named:
        if not Path(name).is_file():
            raise ConfigError(f"{name}: expected a file, found none there.")
    options = {name: value for name, value in asdict(arguments).items() if name != "output_dir"}
    inputs = {"stage": STAGE, "options": options}
    inputs["data"] = describe_data([*map(Path, named), *files])
    if arguments.base_model is not None:
        inputs["base"] = describe_weights(resolve_model(arguments.base_model))
    return inputs


def read_model_config(path: Path) -> PretrainedConfig:
    """Return the configuration of a causal language model.

    Raises ConfigError: no JSON object, an unknown model_type, a key that the type does not have.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8 is a ValueError too
        raise ConfigError(f"{path}: expected a JSON object: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(values).__name__}.")
    name = values.pop("model_type", None)
    if name not in CONFIG_MAPPING or CONFIG_MAPPING[name] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        near = difflib.get_close_matches(str(name), list(CONFIG_MAPPING), n=3)
        raise ConfigError(
            f"{path}: expected model_type as the name of a causal language model of transformers "
            f"(gpt2, llama, qwen2, …), found {name!r}"
            + (f"; near it: {', '.join(near)}." if near else ".")
        )
    config_class = CONFIG_MAPPING[name]
    known = config_class().to_dict().keys() | config_class.attribute_map.keys() | OF_THE_LIBRARY
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ConfigError(
            f"{path}: expected keys of a {name} configuration, found {', '.join(unknown)}, which "
            "would change nothing; correct or remove them."
        )
    try:
        return config_class(**values)
    except Exception as error:  # its own checks raise errors of several kinds
        raise ConfigError(f"{path}: expected a {name} configuration: {error}") from error


def new_tokenizer(arguments: NewModelArguments, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Return the tokenizer that the options describe."""
    if arguments.tokenizer != WORDPIECE:
        return train_byte_pairs(texts, arguments.vocab_size)
    if arguments.vocab_file is not None:
        return wordpiece_tokenizer(read_vocabulary(Path(arguments.vocab_file)))
    return wordpiece_tokenizer(count_vocabulary(texts, arguments.vocab_size))


def untrained_model(
    arguments: NewModelArguments, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Return the model with random weights and as many rows as the tokenizer needs.

    A vocab_size of the configuration gives way to that. Raises ConfigError for a network that
    cannot be built.
    """
    multiple = arguments.pad_to_multiple_of
    config.vocab_size = -(-len(tokenizer) // multiple) * multiple
    set_special_ids(config, tokenizer)
    tokenizer.model_max_length = config.max_position_embeddings
    torch.manual_seed(arguments.seed)
    try:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{arguments.model_config}: expected a network that can be built: {error}"
        ) from error
    model.generation_config = GenerationConfig()
    set_special_ids(model.generation_config, tokenizer)
    return model


def model_with_template(
    arguments: NewModelArguments,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a trained model and its tokenizer with the tags and template of questions and answers.

    The new rows of the embedding are drawn around the mean of the old ones, by the seed.
    """
    name = resolve_model(str(arguments.base_model))
    tokenizer = read_tokenizer(name)
    add_question_answer(tokenizer, name)
    model = load_weights(name, "auto")
    num_rows = max(len(tokenizer), model.get_input_embeddings().num_embeddings)
    torch.manual_seed(arguments.seed)
    model.resize_token_embeddings(num_rows, pad_to_multiple_of=arguments.pad_to_multiple_of)
    set_special_ids(model.config, tokenizer)
    set_special_ids(model.generation_config, tokenizer)
    return model, tokenizer


def set_special_ids(
    config: PretrainedConfig | GenerationConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Set what begins, ends and pads a text; those of a configuration are of its old tokenizer."""
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
