"""Adapters and prefixes: the model with a new one to come, or with one that is loaded entirely."""

from pathlib import Path
from typing import NamedTuple

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from medtune.arguments import PISSA, AdapterArguments, ModelArguments
from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.lineage import check_complete
from medtune.models.loading import load_model
from medtune.models.quantisation import num_values
from medtune.models.strict import find_non_finite, refuse_non_finite
from medtune.models.token_growth import (
    copy_rows_to_base,
    fit_vocabulary,
    grow_to_adapter,
    train_new_rows,
)
from medtune.models.tuners import PEFT_TYPES, check_targets, freeze_all_but, new_adapter_config
from medtune.models.weight_files import ADAPTER_WEIGHTS, check_adapter_folder, load_tensors

# What a prefix's configuration says of its model.
PREFIX_SIZES = ("num_layers", "token_dim", "num_attention_heads")


class TrainableModel(NamedTuple):
    """A model to train and, if the trainer shall add one to it, the new adapter's configuration."""

    model: PreTrainedModel | PeftModel
    new_adapter: PeftConfig | None


def load_trainable_model(
    model_arguments: ModelArguments,
    arguments: AdapterArguments,
    tokenizer: PreTrainedTokenizerBase,
) -> TrainableModel:
    """Return the base with a new adapter to come, a loaded one (--peft_path), or none.

    tokenizer: that of the rows; what --add_tokens has added to it becomes rows of the embedding.
    Raises CheckpointError and ConfigError as `load_model` and `load_adapter` do.
    """
    model = load_model(model_arguments)
    new_ids = fit_vocabulary(model, tokenizer, model_arguments, arguments)
    if arguments.peft_path:
        check_kind(arguments)
        return TrainableModel(load_adapter(model, arguments.peft_path, is_trainable=True), None)
    new_adapter = new_adapter_config(arguments)
    check_targets(model, new_adapter)
    if new_adapter is None:
        freeze_all_but(model, arguments)
    elif arguments.is_pissa and is_deepspeed_zero3_enabled():
        raise ConfigError(
            f"--init_lora_weights {arguments.init_lora_weights} and DeepSpeed ZeRO-3 clash: no "
            "process has a whole weight to decompose. Leave one of them out."
        )
    if new_adapter is not None and new_ids:
        train_new_rows(new_adapter, model, new_ids)
    return TrainableModel(model, new_adapter)


def check_kind(arguments: AdapterArguments) -> None:
    """Raise ConfigError if --peft_path holds another kind of adapter than the options say."""
    check_adapter_folder(Path(str(arguments.peft_path)))
    config = PeftConfig.from_pretrained(str(arguments.peft_path))
    where = f"--peft_path {arguments.peft_path}"
    tuner = next((name for name, kind in PEFT_TYPES.items() if kind == config.peft_type), None)
    if tuner is None:
        raise ConfigError(
            f"{where}: expected an adapter of {' or '.join(PEFT_TYPES)}, found {config.peft_type}."
        )
    if tuner != arguments.tuner:
        raise ConfigError(
            f"{where}: expected an adapter of --tuner {arguments.tuner}, found one of {tuner}; "
            f"give --tuner {tuner}."
        )
    if isinstance(config, PrefixTuningConfig) and arguments.pre_seq_len not in (
        None,
        config.num_virtual_tokens,
    ):
        raise ConfigError(
            f"{where}: expected --pre_seq_len {arguments.pre_seq_len}, found a prefix of "
            f"{config.num_virtual_tokens} tokens; leave --pre_seq_len out: it stays as it is."
        )
    why = why_not_continued(config)
    if why:
        raise ConfigError(f"{where}: expected an adapter that can be trained on, found {why}.")


def why_not_continued(config: PeftConfig) -> str | None:
    """Return why another run cannot go on with an adapter; None if it can."""
    if isinstance(config, PrefixTuningConfig) and config.prefix_projection:
        return "a prefix of --prefix_projection, of whose network the result alone is kept"
    if isinstance(config, LoraConfig) and str(config.init_lora_weights).startswith(PISSA):
        return (
            "a checkpoint of a PiSSA run; finish that run: its folder holds the adapter for the "
            "original weights"
        )
    return None


def check_mergeable(folder: str) -> None:
    """Raise CheckpointError for a prefix: its keys and values are no part of any weight."""
    check_adapter_folder(Path(folder))
    config = PeftConfig.from_pretrained(folder)
    if config.is_prompt_learning:
        raise CheckpointError(
            f"{folder}: expected an adapter that can be added to the weights, found a prefix of "
            f"P-Tuning v2 (peft_type {config.peft_type.value}), which cannot be merged. Use it "
            "beside its base: evaluation.py --adapter, and --peft_path to train it on."
        )


def load_adapter(model: PreTrainedModel, folder: str, is_trainable: bool = False) -> PeftModel:
    """Return the model with the adapter or prefix, after checking that the two fit entirely.

    A base without rows for the adapter's own tokens gets them.
    Raises CheckpointError: no adapter there, a pickle, unfinished, damaged, not finite, of
    other shapes or names than the model's.
    """
    check_adapter_folder(Path(folder))
    check_complete(folder, "adapter")
    grow_to_adapter(model, folder)
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode = not is_trainable
        peft_model = wrap(model, config, folder)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder}: the adapter does not fit the model: {error}") from error
    set_peft_model_state_dict(peft_model, load_fitting_state(peft_model, folder))
    copy_rows_to_base(peft_model)
    return peft_model


def add_adapter(model: PeftModel, folder: str, name: str) -> None:
    """Put one more LoRA adapter on a model that has one, without making it the active one.

    Raises CheckpointError as `load_adapter` does.
    """
    check_adapter_folder(Path(folder))
    check_complete(folder, "adapter")
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode = True
        model.add_adapter(name, config)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder}: the adapter does not fit the model: {error}") from error
    set_peft_model_state_dict(model, load_fitting_state(model, folder, name), adapter_name=name)


def wrap(model: PreTrainedModel, config: PeftConfig, folder: str) -> PeftModel:
    """Return the model with an adapter of this configuration, its weights still to be loaded.

    A prefix takes its sizes from the model, not from its own folder.
    Raises CheckpointError if the two do not agree.
    """
    if not isinstance(config, PrefixTuningConfig):
        return get_peft_model(model, config)
    said = {name: getattr(config, name) for name in PREFIX_SIZES}
    for name in PREFIX_SIZES:
        setattr(config, name, None)
    peft_model = get_peft_model(model, config)
    needed = {name: getattr(config, name) for name in PREFIX_SIZES}
    if said != needed:
        raise CheckpointError(
            f"{folder}: the prefix does not fit this base: the model needs {needed}, the prefix "
            f"has {said}. Give the base that it was trained on (lineage.json in its folder names "
            "it)."
        )
    return peft_model


def load_fitting_state(
    peft_model: PeftModel, folder: str, name: str = "default"
) -> dict[str, torch.Tensor]:
    """Return an adapter's tensors, if they are those that the model's `name` has, and finite.

    Raises CheckpointError naming file or tensor. set_peft_model_state_dict alone would leave out
    what it does not know and keep the new adapter where something is missing.
    """
    state = load_tensors(Path(folder) / ADAPTER_WEIGHTS)
    has_embedding = any(".embed_tokens." in n and ".token_adapter." not in n for n in state)
    expected = get_peft_model_state_dict(
        peft_model, adapter_name=name, save_embedding_layers=has_embedding
    )
    check_shapes(folder, shapes_of(state), shapes_of(expected))
    refuse_non_finite(folder, find_non_finite(state.items()))
    return state


def shapes_of(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by its name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def check_shapes(
    folder: str, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]
) -> None:
    """Raise CheckpointError that names the first differences between adapter and model."""
    differences = [
        f"{name}: the model needs {expected.get(name, 'no such tensor')}, "
        f"the adapter has {found.get(name, 'none')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if differences:
        shown = "\n  ".join(differences[:5])
        raise CheckpointError(
            f"{folder}: the adapter does not fit this base in {len(differences)} tensors:\n  "
            f"{shown}\nGive the base that it was trained on (lineage.json in its folder names it)."
        )


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Return (trainable, total) parameter counts, right under ZeRO-3 and in 4 bits too."""
    sizes = [(p.requires_grad, num_values(p)) for p in model.parameters()]
    return sum(n for trained, n in sizes if trained), sum(n for _, n in sizes)
