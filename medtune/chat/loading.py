"""The models that are talked to, by name: a base, its adapters, and others beside it."""

import warnings
from pathlib import Path
from typing import TypeVar

import torch
from peft import PeftConfig, PeftModel, PeftType
from transformers import PreTrainedModel

from medtune.arguments import PISSA, ChatArguments, ModelArguments
from medtune.chat.engine import Engine
from medtune.chat.session import ChatSession
from medtune.chat.variants import Base, Variant, is_prefix, variant_of
from medtune.common.errors import ConfigError
from medtune.models.adapters import add_adapter, load_adapter
from medtune.models.loading import load_model, load_tokenizer
from medtune.models.quantised_bases import warn_of_other_bits
from medtune.models.token_growth import check_sizes, trained_ids
from medtune.models.weight_files import ADAPTER_CONFIG

Model = TypeVar("Model", PreTrainedModel, PeftModel)


def load_sessions(
    arguments: ModelArguments, chat: ChatArguments, engine: Engine
) -> dict[str, ChatSession]:
    """Return a session for each model, by the last part of its path.

    First the one to talk to: the base, or --adapter, and then the base is the last. All share the
    engine, and adapters the weights of the base. On the GPU where there is one.
    Raises CheckpointError, ConfigError and DataError.
    """
    base = arguments.model_name_or_path
    others = [one for one in dict.fromkeys(chat.compare) if one not in (base, chat.adapter)]
    folders = [chat.adapter, *others, base] if chat.adapter else [base, *others]
    adapters = [folder for folder in folders if is_adapter(folder)]
    if chat.adapter and chat.adapter not in adapters:
        raise ConfigError(
            f"--adapter {chat.adapter}: expected the folder of an adapter, with "
            f"{ADAPTER_CONFIG}, found none there. A whole model is --model_name_or_path."
        )
    own_tokens = [folder for folder in adapters if trained_ids(folder)]
    if own_tokens and len(adapters) > 1:
        raise ConfigError(
            f"{own_tokens[0]}: expected adapters that share a tokenizer, found one with tokens of "
            "its own. Merge it (merge_peft_adapter.py) and give the merged model to --compare."
        )
    if own_tokens and not chat.adapter:
        raise ConfigError(
            f"--compare {own_tokens[0]}: expected an adapter that shares the base's tokenizer, "
            "found one with tokens of its own. Give it to --adapter, or merge it "
            "(merge_peft_adapter.py) and give the merged model."
        )
    if pissa := [folder for folder in adapters if is_of_pissa(folder)]:
        raise ConfigError(
            f"{pissa[0]}: expected an adapter for the base's own weights, found a checkpoint of a "
            "PiSSA run, which changes them for all. Finish that run: its folder holds the adapter."
        )
    model = load_model(arguments)
    variants = add_adapters(model, adapters)
    sessions: dict[str, ChatSession] = {}

    def add(folder: str, variant: Variant, own: ModelArguments) -> None:
        tokenizer = load_tokenizer(own, folder if folder in adapters else None)
        check_sizes(variant.base.model, tokenizer, own.model_name_or_path)
        name = Path(folder).name
        sessions[folder if name in sessions else name] = ChatSession(
            variant, tokenizer, chat.max_length, engine
        )

    for folder in folders:
        if folder in adapters:
            warn_of_other_bits(arguments, folder)
            add(folder, variants[folder], arguments)
        elif folder != base:
            other = ModelArguments(folder, dtype=arguments.dtype)
            add(folder, variant_of(on_gpu(load_model(other))), other)
        elif not own_tokens:  # which the base never learnt
            add(base, variants[""], arguments)
    return sessions


def is_adapter(folder: str) -> bool:
    """Whether a folder is an adapter's, and not a model's."""
    return (Path(folder) / ADAPTER_CONFIG).is_file()


def is_of_pissa(folder: str) -> bool:
    """Whether an adapter goes with what PiSSA leaves of the base's weights."""
    init = getattr(PeftConfig.from_pretrained(folder), "init_lora_weights", "")
    return str(init).startswith(PISSA)


def add_adapters(model: PreTrainedModel, folders: list[str]) -> dict[str, Variant]:
    """Return a model as each of its adapters by their folders, and alone by "".

    LoRA adapters live in the layers of the one base, prefixes beside it.
    """
    lora: PeftModel | None = None
    prefixes: dict[str, PeftModel] = {}
    names: dict[str, str] = {}
    for folder in folders:
        if lora is not None and PeftConfig.from_pretrained(folder).peft_type == PeftType.LORA:
            names[folder] = f"adapter_{len(names)}"
            add_adapter(lora, folder, names[folder])
            continue
        with warnings.catch_warnings():
            # LoRA in the layers and prefixes beside them are what is wanted here.
            warnings.filterwarnings("ignore", "You are trying to modify a model with PEFT")
            loaded = load_adapter(model, folder)
        if is_prefix(loaded):
            prefixes[folder] = loaded
        else:
            lora, names[folder] = loaded, str(loaded.active_adapter)
    base = Base(on_gpu(lora if lora is not None else model))
    variants = {folder: Variant(base, name) for folder, name in names.items()}
    variants |= {folder: variant_of(on_gpu(peft), base) for folder, peft in prefixes.items()}
    return {**variants, "": Variant(base)}


def on_gpu(model: Model) -> Model:
    """Return the model where it computes fastest; a quantised one is there already."""
    if torch.cuda.is_available() and model.device.type != "cuda":
        return model.to("cuda")
    return model
