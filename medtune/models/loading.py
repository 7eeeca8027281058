"""Load a tokenizer and a model: native classes, safetensors, no remote code, all or nothing."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
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
from medtune.models.families import check_model_type, give_chat_template
from medtune.models.quantisation import (
    find_other_shapes,
    is_quantised,
    keep_scales,
    quantisation_options,
)
from medtune.models.strict import (
    check_finite_files,
    check_finite_model,
    check_keys,
    find_extra,
    is_divided,
)
from medtune.models.template_check import check_templates
from medtune.models.tiny import TINY_GLM, tiny_glm_folder
from medtune.models.weight_files import (
    ADAPTER_CONFIG,
    CONFIG,
    TOKENIZER_CONFIG,
    TRAINED_TOKENS,
    check_model_folder,
    check_no_own_code,
    find_file,
    read_if_there,
)

# How transformers begins when tensors do not fit: under ZeRO-3, and when it converts them.
NOT_LOADED = ("Error(s) in loading state_dict", "We encountered some issues during automatic")
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


def load_tokenizer(
    arguments: ModelArguments, adapter: str | None = None
) -> PreTrainedTokenizerBase:
    """Return the tokenizer, with what a model in training needs where it has none.

    End-of-text as padding, and the chat template of its family.   adapter: the folder of one that
    the model gets.
    """
    tokenizer = read_tokenizer(find_tokenizer(arguments, adapter), **hub_options(arguments))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    give_chat_template(tokenizer)
    return tokenizer


def find_tokenizer(arguments: ModelArguments, adapter: str | None = None) -> str:
    """Return the folder or hub name of the tokenizer: the named one, else the model's.

    An adapter with tokens of its own brings the tokenizer that knows them.
    """
    if adapter and not arguments.tokenizer_name_or_path:
        path = Path(adapter)
        if read_if_there(path / ADAPTER_CONFIG).get(TRAINED_TOKENS):
            return adapter
    return resolve_model(arguments.tokenizer_name_or_path or arguments.model_name_or_path)


def read_tokenizer(name: str, **options: Any) -> PreTrainedTokenizerBase:
    """Return a folder's or the hub's tokenizer as it is, after a trial of its chat template.

    Raises CheckpointError: none there, one that needs its own code, a template that fails.
    """
    check_no_own_code(name, (CONFIG, TOKENIZER_CONFIG), **options)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)
    except Exception as error:  # its file may fail anywhere, and the library raises plain ones
        raise CheckpointError(
            f"{name}: expected a tokenizer that loads: {type(error).__name__}: {error}"
        ) from error
    check_templates(name, tokenizer)
    return tokenizer


def load_model(arguments: ModelArguments) -> PreTrainedModel:
    """Return the causal language model in the chosen type, on the CPU or DeepSpeed's shards.

    With --quantization_bit on this process's device, which is where bitsandbytes quantises.

    Raises ConfigError (another family, a format that needs remote code) and CheckpointError (not
    safetensors, weights missing from the files or of another shape).
    """
    name = resolve_model(arguments.model_name_or_path)
    config = read_config(name, **hub_options(arguments))
    check_model_type(arguments.model_type, config.model_type)
    dtype = choose_dtype(arguments.dtype)
    bits = arguments.quantization_bit
    quantised = {} if bits is None else quantisation_options(bits, dtype)
    return load_weights(name, dtype, **quantised, **hub_options(arguments))


def hub_options(arguments: ModelArguments) -> dict[str, Any]:
    """Return the options that say which hub version to use and where to keep it."""
    return {"revision": arguments.revision, "cache_dir": arguments.cache_dir}


def read_config(name: str, **options: Any) -> PretrainedConfig:
    """Return the model's config. Raises CheckpointError: none that can be read, or own code."""
    check_no_own_code(name, (CONFIG,), **options)
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name}: expected a model with a config.json that transformers can read: {error}"
        ) from error


def load_weights(name: str, dtype: torch.dtype | str, **options: Any) -> PreTrainedModel:
    """Return the model, whole and finite: chance would fill in what is missing.

    dtype: a torch type, or "auto" for the type that the weights were saved in.   options: of
    from_pretrained; those of quantisation_options give quantised weights.
    Raises CheckpointError naming file or tensor. Of a hub name only the tensors are checked, not
    the files: the hub's client keeps to its own folder.
    """
    hub = {key: options[key] for key in ("revision", "cache_dir") if key in options}
    check_no_own_code(name, (CONFIG,), **hub)
    names = check_model_folder(Path(name)) if Path(name).is_dir() else set()
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are then named, and refused below
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{name}: expected a model in safetensors that loads without its own code: {error}"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(NOT_LOADED):
            raise  # no memory, say: that is not the folder's fault
        raise CheckpointError(
            f"{name}: expected weights that fit the model of its config.json: {error}"
        ) from error
    if is_divided(model):
        found["unexpected_keys"] = find_extra(names, model)
    if is_quantised(model):
        keep_scales(model)
        found["mismatched_keys"] = {*found["mismatched_keys"], *find_other_shapes(model)}
        if config := find_file(name, CONFIG, **hub):
            check_finite_files(name, config.parent)
    check_keys(name, model, found)
    check_finite_model(name, model)
    return model
