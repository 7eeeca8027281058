"""LoRA adapters: the configuration of a new one, and loading an existing one without gaps."""

from pathlib import Path
from typing import NamedTuple

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from transformers import PreTrainedModel

from medtune.arguments import AdapterArguments, ModelArguments
from medtune.common.errors import CheckpointError
from medtune.common.lineage import check_complete
from medtune.models.loading import load_model
from medtune.models.strict import find_non_finite, refuse_non_finite
from medtune.models.weight_files import ADAPTER_WEIGHTS, check_adapter_folder, load_tensors

ALL_LINEAR = "all-linear"  # peft's name for every linear layer but the output head


class TrainableModel(NamedTuple):
    """A model to train and, if the trainer shall add one to it, the new adapter's configuration."""

    model: PreTrainedModel | PeftModel
    new_adapter: LoraConfig | None


def load_trainable_model(
    model_arguments: ModelArguments, arguments: AdapterArguments
) -> TrainableModel:
    """Return the base with a new adapter to come, a loaded one (--peft_path), or none.

    Raises CheckpointError and ConfigError as `load_model` and `load_adapter` do.
    """
    model = load_model(model_arguments)
    if not arguments.use_peft:
        return TrainableModel(model, None)
    if arguments.peft_path:
        return TrainableModel(load_adapter(model, arguments.peft_path, is_trainable=True), None)
    return TrainableModel(model, lora_config(arguments))


def lora_config(arguments: AdapterArguments) -> LoraConfig:
    """Return the configuration of a new adapter."""
    targets = arguments.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=ALL_LINEAR if targets == ["all"] else targets,
        modules_to_save=arguments.modules_to_save,
    )


def load_adapter(model: PreTrainedModel, folder: str, is_trainable: bool = False) -> PeftModel:
    """Return the model with the adapter, after checking that the two fit to the last tensor.

    Raises CheckpointError: no adapter there, a pickle, unfinished, damaged, not finite, of
    other shapes or names than the model's.
    """
    check_adapter_folder(Path(folder))
    check_complete(folder, "adapter")
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode = not is_trainable
        peft_model = get_peft_model(model, config)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder}: the adapter does not fit the model: {error}") from error
    set_peft_model_state_dict(peft_model, load_fitting_state(peft_model, folder))
    return peft_model


def load_fitting_state(peft_model: PeftModel, folder: str) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors, if they are those that the model has, and finite.

    Raises CheckpointError naming file or tensor. set_peft_model_state_dict alone would leave out
    what it does not know and keep the new adapter where something is missing.
    """
    state = load_tensors(Path(folder) / ADAPTER_WEIGHTS)
    has_embedding = any(".embed_tokens." in name for name in state)
    expected = get_peft_model_state_dict(peft_model, save_embedding_layers=has_embedding)
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
    """Return (trainable, total) parameter counts, right under DeepSpeed ZeRO-3 too."""
    sizes = [(p.requires_grad, getattr(p, "ds_numel", p.numel())) for p in model.parameters()]
    return sum(n for trained, n in sizes if trained), sum(n for _, n in sizes)
