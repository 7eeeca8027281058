"""What the tuners need of a trainer that TRL, PEFT and transformers leave out.

Trained weights stay in float32 on a quantised base; LoRA+ has rates of its own; checkpoints hold
what PEFT does not save; PiSSA ends as plain LoRA of the original weights.
"""

import math
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, get_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file

from medtune.arguments import AdapterArguments
from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.log import is_main_process, logger
from medtune.models.quantisation import is_quantised
from medtune.models.tuners import plain_lora_of
from medtune.models.weight_files import ADAPTER_WEIGHTS, load_tensors
from medtune.training.packed.install import has_prompt, why_padded

TUNER_STATE = "tuner_state.safetensors"  # of a checkpoint
Tensors = dict[str, torch.Tensor]


class TunedWeights:
    """Comes before the trainer's class, which builds the adapter.

    initial_lora: what a PiSSA adapter began with, by the names of its file; else empty.
    """

    optimizer: Any

    def __init__(self, adapter: AdapterArguments, **kwargs: Any) -> None:
        """Pass everything else on to the trainer."""
        loaded = loaded_weights(kwargs["model"])
        super().__init__(**kwargs)
        self.adapter = adapter
        model: Any = self.model  # type: ignore[attr-defined]
        keep_in_float32(model, loaded)
        freeze_reference(model)
        self.initial_lora: Tensors = saved_weights(model) if adapter.is_pissa else {}

    def create_optimizer(self, *args: Any) -> Any:
        """Return the trainer's optimizer; with --loraplus_lr_ratio one that has two rates."""
        arguments = self.adapter
        if arguments.loraplus_lr_ratio is None or self.optimizer is not None:
            return super().create_optimizer(*args)  # type: ignore[misc]
        training, model = self.args, self.model  # type: ignore[attr-defined]
        kind, options = self.get_optimizer_cls_and_kwargs(training, model)  # type: ignore[attr-defined]
        self.optimizer = create_loraplus_optimizer(
            model,
            kind,
            loraplus_lr_ratio=arguments.loraplus_lr_ratio,
            loraplus_weight_decay=training.weight_decay,
            **options,
        )
        return self.optimizer

    def tuner_state(self) -> Tensors:
        """Return what a continued run needs beside what PEFT saves: nothing for most tuners."""
        return self.initial_lora or network_of(self.model)  # type: ignore[attr-defined]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save what the trainer saves, and the tuner's own state beside it."""
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        state = self.tuner_state()
        if state and is_main_process():
            folder = Path(self.args.output_dir)  # type: ignore[attr-defined]
            checkpoint = folder / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
            save_file(state, checkpoint / TUNER_STATE)

    def _load_from_checkpoint(self, checkpoint: str, *args: Any, **kwargs: Any) -> None:
        """Load as the trainer does; a network that computes the prefix is loaded by itself.

        Raises CheckpointError if PiSSA took another part out of the weights this time.
        """
        model: Any = self.model  # type: ignore[attr-defined]
        if network_of(model):
            network = load_tensors(Path(checkpoint) / TUNER_STATE)
            model.prompt_encoder[model.active_adapter].load_state_dict(network)
            return
        super()._load_from_checkpoint(checkpoint, *args, **kwargs)  # type: ignore[misc]
        if not self.initial_lora:
            return
        before = load_tensors(Path(checkpoint) / TUNER_STATE)
        if any(not torch.equal(before[name], now) for name, now in self.initial_lora.items()):
            raise CheckpointError(
                f"{checkpoint}: expected the decomposition of the weights that this run began "
                "with, found another one: this machine or its libraries compute it otherwise, and "
                "the rest of the weights is another. Go on where the run was begun, or name "
                "another --output_dir."
            )

    def finish_adapter(self, folder: Path) -> None:
        """Turn the PiSSA adapter that was saved there into LoRA of the original weights."""
        if self.initial_lora and is_main_process():
            write_plain_lora(folder, self.initial_lora)


def loaded_weights(model: Any) -> Tensors:
    """Return copies of the weights of a loaded adapter on a quantised base; else nothing."""
    if not (isinstance(model, PeftModel) and is_quantised(model)):
        return {}
    named = model.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def keep_in_float32(model: Any, loaded: Tensors) -> None:
    """Undo that TRL rounds the trained weights to bfloat16 if the base is quantised.

    A small update of AdamW is lost there. loaded: their values before that, where there were any.
    """
    if not is_quantised(model):
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = loaded.get(name, parameter.data).float()


def freeze_reference(model: Any) -> None:
    """Freeze the copy of a prefix that TRL adds as the reference of pairs; of LoRA PEFT does it."""
    for name, encoder in getattr(model, "prompt_encoder", {}).items():
        if name != model.active_adapter:
            encoder.requires_grad_(False)


def saved_weights(model: PeftModel) -> Tensors:
    """Return copies of an adapter's weights under the names that its file gives them."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def network_of(model: Any) -> Tensors:
    """Return the weights of the network that computes a prefix; nothing where there is none.

    PEFT saves what it computes, which is all that using the prefix takes.
    """
    config = model.active_peft_config if isinstance(model, PeftModel) else None
    if not isinstance(config, PrefixTuningConfig) or not config.prefix_projection:
        return {}
    state = model.prompt_encoder[model.active_adapter].state_dict()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def write_plain_lora(folder: Path, initial: Tensors) -> None:
    """Replace a folder's PiSSA adapter by its equal of twice the rank for the original weights."""
    config = PeftConfig.from_pretrained(folder)
    assert isinstance(config, LoraConfig)
    plain = plain_lora_of(load_tensors(folder / ADAPTER_WEIGHTS), initial)
    save_file(plain, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config.r *= 2
    config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
    config.init_lora_weights = True
    config.save_pretrained(str(folder))
    logger.info("PiSSA: saved as LoRA of rank %s for the original weights", config.r)


def check_prefix_is_read(trainer: Any) -> None:
    """Raise ConfigError where a prefix would be lost: the padded forward keeps it in a cache.

    Recomputed layers drop the cache, and with it the documents of a block see each other.
    """
    if not has_prompt(trainer.model) or not (why := why_padded(trainer)):
        return
    if trainer.args.gradient_checkpointing:
        raise ConfigError(
            f"--tuner ptuning_v2 and --gradient_checkpointing clash here ({why}): recomputed "
            "layers do without the prefix. Give --gradient_checkpointing False."
        )
    if "seq_lengths" in trainer.train_dataset.column_names:
        raise ConfigError(
            f"--tuner ptuning_v2: expected the packed forward in pretraining, found the padded one "
            f"({why}), in which the documents of a block see each other under a prefix."
        )
