"""convert_chatglm.py: find out what a folder holds, and write it in the other format."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, GlmConfig

from medtune.arguments import ConversionArguments
from medtune.common.disk import check_room
from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.files import apply_umask, sha256_of_file, staged_folder, write_json
from medtune.common.lineage import (
    LINEAGE_FILE,
    check_complete,
    describe_outputs,
    describe_weights,
    is_already_made,
    mark_complete,
    write_lineage,
)
from medtune.common.log import logger
from medtune.models.conversion.adapters import convert_adapter, read_adapter_settings
from medtune.models.conversion.config import (
    NATIVE_TYPE,
    OLD_TYPE,
    native_config,
    read_model_type,
    read_old_config,
)
from medtune.models.conversion.generations import (
    TOKENIZER_MODEL,
    find_generation,
    read_old_tokenizer,
)
from medtune.models.conversion.prefix import OLD_PREFIX, convert_prefix
from medtune.models.conversion.shards import Shard, find_shards, load_pickle, opened
from medtune.models.conversion.weights import convert_weights
from medtune.models.families import stop_token_ids
from medtune.models.tiny_chatglm2 import TINY_CHATGLM2, tiny_chatglm2_folder
from medtune.models.weight_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    FETCH_AGAIN,
    load_tensors,
    read_if_there,
)

STAGE = "conversion"
ADAPTER_BIN = "adapter_model.bin"
GENERATION_CONFIG = "generation_config.json"
# What a model's publisher recommends for sampling; all else is worked out from the tokenizer.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty")


def convert(arguments: ConversionArguments) -> None:
    """Convert what is in a folder, or say that it is done already.

    Raises CheckpointError (a folder that holds something else, or is damaged) and ConfigError.
    """
    name = arguments.model_dir
    source = tiny_chatglm2_folder() if name == TINY_CHATGLM2 else Path(name)
    if not source.is_dir():
        raise CheckpointError(
            f"--model_dir {source}: expected a folder, found none; a model on the hub is to be "
            "fetched first (git clone, or huggingface-cli download with --local-dir)."
        )
    check_complete(source, "model")
    if (source / ADAPTER_CONFIG).is_file():
        write_adapter(arguments, source)
        return
    model_type = read_model_type(source)
    if arguments.reverse:
        raise ConfigError(
            f"--reverse: expected a native LoRA adapter in --model_dir, found a model ({source}); "
            "models are converted to the native format alone."
        )
    if model_type == NATIVE_TYPE:
        raise ConfigError(
            f"--model_dir {source}: expected a model in the old format (model_type {OLD_TYPE}), "
            "found a native one: it needs no conversion."
        )
    if model_type != OLD_TYPE:
        raise ConfigError(
            f"--model_dir {source}: expected a ChatGLM2, ChatGLM3 or GLM-4 model (model_type "
            f"{OLD_TYPE} in {CONFIG}), found {model_type!r}."
        )
    values = read_old_config(source)
    shards = find_shards(source)
    if all(name.startswith(OLD_PREFIX) for shard in shards for name in shard.tensors):
        write_prefix(arguments, source, shards)
    else:
        write_model(arguments, source, values, shards)


def write_model(
    arguments: ConversionArguments, source: Path, values: dict[str, Any], shards: list[Shard]
) -> None:
    """Write the native form of a whole model with its tokenizer."""
    prefix = [n for shard in shards for n in shard.tensors if n.startswith(OLD_PREFIX)]
    if prefix:
        raise CheckpointError(
            f"{source}: expected a model or a P-Tuning v2 prefix, found both in one: {prefix[0]} "
            "beside the model's weights. Save the prefix by itself, as the training code does, and "
            "convert the model and the prefix one after the other."
        )
    generation = find_generation(source, arguments.model_type)
    if generation.name == "chatglm2" and values["rope_ratio"] != 1:
        raise CheckpointError(
            f"{source / CONFIG}: expected rope_ratio 1 of ChatGLM2, found {values['rope_ratio']}: "
            "ChatGLM2-6B-32K stretches positions in a way that is not known here."
        )

    def fill(folder: Path) -> None:
        tokenizer = read_old_tokenizer(source, generation, values["seq_length"])
        if len(tokenizer) > values["padded_vocab_size"]:
            raise CheckpointError(
                f"{source}: expected at most {values['padded_vocab_size']:,} tokens "
                f"(padded_vocab_size), found a tokenizer with {len(tokenizer):,}. {FETCH_AGAIN}"
            )
        stop_ids = stop_token_ids(tokenizer, set())
        config = native_config(values, tokenizer.pad_token_id, stop_ids)
        check_room(folder, sum(shard.path.stat().st_size for shard in shards), "the model")
        num_bytes = convert_weights(shards, config, folder)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        generation_config(source, config).save_pretrained(folder)
        logger.info(
            "converted %s as %s: %s tensors, %.2f GB in %s",
            source,
            generation.name,
            f"{sum(len(shard.tensors) for shard in shards):,}",
            num_bytes / 1e9,
            str(config.dtype).removeprefix("torch."),
        )

    inputs = {
        "stage": STAGE,
        "base": describe_weights(source),
        # Pickles and the old tokenizer have no place in the hash over a native model's files.
        "files": {
            path.name: sha256_of_file(path)
            for path in sorted([*source.glob("*.bin"), source / TOKENIZER_MODEL])
        },
        "generation": generation.name,
    }
    write_output(Path(arguments.output_dir), inputs, fill)


def generation_config(source: Path, config: GlmConfig) -> GenerationConfig:
    """Return how the model generates: its publisher's sampling, and all tokens it stops at."""
    old = read_if_there(source / GENERATION_CONFIG)
    sampling = {name: old[name] for name in SAMPLING if old.get(name) is not None}
    return GenerationConfig(
        eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id, **sampling
    )


def write_adapter(arguments: ConversionArguments, source: Path) -> None:
    """Write a LoRA adapter in the other format."""
    settings = read_adapter_settings(source)
    base, config = find_base(arguments, settings.get("base_model_name_or_path"))

    def fill(folder: Path) -> None:
        path = source / ADAPTER_WEIGHTS
        if path.is_file():
            tensors = load_tensors(path)
        elif (source / ADAPTER_BIN).is_file():
            path = source / ADAPTER_BIN
            tensors = load_pickle(path)
        else:
            raise CheckpointError(
                f"{source}: expected {ADAPTER_WEIGHTS} or {ADAPTER_BIN}, found neither. "
                f"{FETCH_AGAIN}"
            )
        converted, changed = convert_adapter(path, tensors, settings, config, arguments.reverse)
        save_file(converted, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        changed["base_model_name_or_path"] = named_base(arguments, base)
        write_json(folder / ADAPTER_CONFIG, changed)
        logger.info("converted %s: %s tensors", source, f"{len(converted):,}")

    write_output(Path(arguments.output_dir), adapter_inputs(arguments, source, base), fill)


def write_prefix(arguments: ConversionArguments, source: Path, shards: list[Shard]) -> None:
    """Write a P-Tuning v2 prefix as an adapter of PEFT."""
    base, config = find_base(arguments, str(source))

    def fill(folder: Path) -> None:
        tensors: dict[str, torch.Tensor] = {}
        for shard in shards:
            with opened(shard.path) as load:
                tensors |= {name: load(name) for name in shard.tensors}
        converted, settings = convert_prefix(shards[0].path, tensors, config)
        save_file(converted, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        settings.base_model_name_or_path = named_base(arguments, base)
        settings.save_pretrained(folder)
        logger.info("converted %s: %s virtual tokens", source, settings.num_virtual_tokens)

    write_output(Path(arguments.output_dir), adapter_inputs(arguments, source, base), fill)


def find_base(arguments: ConversionArguments, named: str | None) -> tuple[Path, GlmConfig]:
    """Return the folder of an adapter's base and its sizes; the base may be in either format.

    named: the one that the adapter names itself.   Raises ConfigError: no such folder here.
    """
    base = Path(arguments.base_model or named or "")
    if not (base / CONFIG).is_file():
        raise ConfigError(
            f"{arguments.model_dir}: expected the folder of the model that this adapter is for, "
            f"whose {CONFIG} has its sizes, found none at {str(named)!r}; give it as --base_model."
        )
    if read_model_type(base) == OLD_TYPE:
        return base, native_config(read_old_config(base), None, [])
    if read_model_type(base) != NATIVE_TYPE:
        raise ConfigError(
            f"--base_model {base}: expected model_type {OLD_TYPE} or {NATIVE_TYPE}, found "
            f"{read_model_type(base)!r}."
        )
    return base, GlmConfig.from_pretrained(base)


def named_base(arguments: ConversionArguments, base: Path) -> str | None:
    """Return the base that the written adapter names, None if it is not in the adapter's format."""
    wanted = OLD_TYPE if arguments.reverse else NATIVE_TYPE
    return str(base) if read_model_type(base) == wanted else None


def adapter_inputs(arguments: ConversionArguments, source: Path, base: Path) -> dict[str, Any]:
    """Return what the lineage of a converted adapter says that it was made from."""
    weights = [path for path in sorted(source.glob("*.bin")) if "training_args" not in path.name]
    # What was trained is the old adapter; of the base only the sizes are read.
    name = named_base(arguments, base)
    return {
        "stage": STAGE,
        "base": describe_weights(base) if name else {"path": str(base), "sha256": None},
        "adapters": [describe_weights(source)],
        "files": {path.name: sha256_of_file(path) for path in weights},
        "reverse": arguments.reverse,
    }


def write_output(output: Path, inputs: dict[str, Any], fill: Callable[[Path], None]) -> None:
    """Write a folder whole or not at all, with its lineage; nothing if it is there already."""
    started = time.monotonic()
    if is_already_made(output, inputs, "conversion"):
        logger.info("%s is complete: nothing to do", output)
        return
    with staged_folder(output) as staging:
        fill(staging)
        write_lineage(staging / LINEAGE_FILE, inputs, describe_outputs(staging))
        apply_umask(staging)
        mark_complete(staging, stage=STAGE, seconds=round(time.monotonic() - started, 1))
    logger.info("complete: %s", output)
