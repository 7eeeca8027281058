"""Load a tokenizer and a model: native classes, safetensors, no remote code, every weight there."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from medtune.arguments import ModelArguments
from medtune.common.errors import CheckpointError
from medtune.common.lineage import check_complete
from medtune.models.families import check_model_type
from medtune.models.tiny import TINY_GLM, tiny_glm_folder

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def resolve_model(name_or_path: str) -> str:
    """Return the folder or hub name to load; builds the built-in model on first use.

    Raises CheckpointError for a missing folder or one that medtune did not finish.
    """
    if name_or_path == TINY_GLM:
        return str(tiny_glm_folder())
    path = Path(name_or_path)
    looks_local = path.is_absolute() or name_or_path.startswith(".") or path.parent.name != ""
    if not path.is_dir() and looks_local and path.parent.is_dir():
        raise CheckpointError(
            f"{name_or_path}: expected a model folder, found none there; run the stage or "
            "the merge that writes it first."
        )
    check_complete(path, "model")
    return name_or_path


def choose_dtype(name: str) -> torch.dtype:
    """Return the type of the weights; auto is bfloat16 on a GPU that has it, else float32."""
    if name != "auto":
        return DTYPES[name]
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def load_tokenizer(arguments: ModelArguments) -> PreTrainedTokenizerBase:
    """Return the tokenizer, with end-of-text as padding where it has no padding token."""
    name = resolve_model(arguments.tokenizer_name_or_path or arguments.model_name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **hub_options(arguments))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name}: expected a tokenizer that loads: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(arguments: ModelArguments) -> PreTrainedModel:
    """Return the causal language model in the chosen type, on the CPU or DeepSpeed's shards.

    Raises ConfigError (another family, a format that needs remote code) and CheckpointError (not
    safetensors, weights missing from the files or of another shape).
    """
    name = resolve_model(arguments.model_name_or_path)
    config = read_config(name, arguments)
    check_model_type(arguments.model_type, config.model_type)
    return load_weights(name, choose_dtype(arguments.dtype), **hub_options(arguments))


def hub_options(arguments: ModelArguments) -> dict[str, Any]:
    """Return the options that say which hub version to use and where to keep it."""
    return {"revision": arguments.revision, "cache_dir": arguments.cache_dir}


def read_config(name: str, arguments: ModelArguments) -> PretrainedConfig:
    """Return the model's config. Raises CheckpointError where there is none to be read."""
    try:
        return AutoConfig.from_pretrained(name, **hub_options(arguments))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name}: expected a model with a config.json that transformers can read: {error}"
        ) from error


def load_weights(name: str, dtype: torch.dtype | str, **options: Any) -> PreTrainedModel:
    """Return the model, and refuse one with weights missing: chance would fill them in.

    dtype: a torch type, or "auto" for the type that the weights were saved in.
    """
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name}: expected a model in safetensors that loads without its own code: {error}"
        ) from error
    missing, wrong = sorted(found["missing_keys"]), sorted(map(str, found["mismatched_keys"]))
    if missing or wrong:
        raise CheckpointError(
            f"{name}: expected every weight of a {model.config.model_type} model, found "
            f"{len(missing)} missing (first: {missing[:3]}) and {len(wrong)} of another shape "
            f"(first: {wrong[:3]}); the folder is damaged or incomplete."
        )
    return model
