"""What is trained: the configuration of a new adapter or prefix, or which layers are not frozen."""

from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftType, PrefixTuningConfig
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from medtune.arguments import FREEZE, LORA, PTUNING_V2, AdapterArguments
from medtune.common.errors import ConfigError
from medtune.models.quantisation import is_quantised

ALL_LINEAR = "all-linear"  # peft's name for every linear layer but the output head
PEFT_TYPES = {LORA: PeftType.LORA, PTUNING_V2: PeftType.PREFIX_TUNING}


def new_adapter_config(arguments: AdapterArguments) -> PeftConfig | None:
    """Return the configuration of the adapter to train; None for freeze and full."""
    if arguments.tuner == PTUNING_V2:
        return prefix_config(arguments)
    return lora_config(arguments) if arguments.tuner == LORA else None


def lora_config(arguments: AdapterArguments) -> LoraConfig:
    """Return the configuration of a new LoRA adapter."""
    targets = arguments.target_modules
    init: Any = arguments.init_lora_weights if arguments.is_pissa else True
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=ALL_LINEAR if targets == ["all"] else targets,
        modules_to_save=arguments.modules_to_save,
        use_dora=arguments.use_dora,
        use_rslora=arguments.use_rslora,
        init_lora_weights=init,
    )


def check_targets(model: PreTrainedModel, config: PeftConfig | None) -> None:
    """Raise ConfigError for --target_modules that name no layer that LoRA can stand on."""
    if not isinstance(config, LoraConfig) or config.target_modules == ALL_LINEAR:
        return
    kinds = (nn.Linear, nn.Embedding, Conv1D)
    layers = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    for target in sorted(config.target_modules or ()):
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            known = sorted({name.rpartition(".")[2] for name in layers})
            raise ConfigError(
                f"--target_modules: expected names of the model's layers ({', '.join(known)}), "
                f"found {target!r}. Leave the option out for all linear ones."
            )


def prefix_config(arguments: AdapterArguments) -> PrefixTuningConfig:
    """Return the configuration of a new prefix: keys and values before each row, in each layer.

    Its sizes are the model's; PEFT reads them from the model's config.
    """
    return PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=arguments.pre_seq_len,
        prefix_projection=arguments.prefix_projection,
    )


def freeze_all_but(model: PreTrainedModel, arguments: AdapterArguments) -> None:
    """Leave only the layers trainable that the tuner trains: of freeze a few, of full everything.

    Raises ConfigError: weights that are integers, more layers than there are.
    """
    if is_quantised(model):
        raise ConfigError(
            f"--tuner {arguments.tuner}: expected a model with weights that can be trained, found "
            "quantised ones in its files. Train an adapter (--tuner lora, ptuning_v2)."
        )
    if not arguments.use_peft:  # full
        return
    layers = decoder_layers(model)
    wanted = arguments.num_trainable_layers
    assert arguments.tuner == FREEZE and wanted is not None
    if abs(wanted) > len(layers):
        raise ConfigError(
            f"--num_trainable_layers: expected at most the model's {len(layers)} layers, found "
            f"{wanted}."
        )
    model.requires_grad_(False)
    for layer in layers[-wanted:] if wanted > 0 else layers[:-wanted]:
        layer.requires_grad_(True)


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return the decoder's layers, from the first to the last."""
    number = model.config.num_hidden_layers
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == number]
    assert stacks, f"no stack of {number} layers in a {type(model).__name__}"
    return list(stacks[0])


def plain_lora_of(
    trained: dict[str, torch.Tensor], initial: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the LoRA of the original weights that a PiSSA adapter has become, of twice its rank.

    PiSSA takes s B0 A0 out of the weights W: what it computes is W - s B0 A0 + s B A, which is
    W + s [B, -B0] [A; A0] (Meng et al. 2024, arXiv 2404.02948).
    trained, initial: the adapter's tensors by name, `lora_A` (rank, in) and `lora_B` (out, rank).
    """
    plain = {}
    for name, tensor in trained.items():
        if ".lora_A." in name:
            tensor = torch.cat([tensor, initial[name]], 0)
        elif ".lora_B." in name:
            tensor = torch.cat([tensor, -initial[name]], 1)
        plain[name] = tensor.contiguous()
    return plain
