"""LoRA adapters for the old format's fused layers, made into adapters for glm's, and back.

An update of a fused layer is (alpha / r) B A. The rows of B are those of the layer, so they are
divided as its weights are, and each part keeps the whole of A.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import GlmConfig

from medtune.common.errors import CheckpointError
from medtune.common.files import read_object
from medtune.models.conversion.layout import (
    FUSED,
    MODULES,
    NATIVE_LAYER,
    OLD_LAYER,
    module_rows,
)
from medtune.models.conversion.shards import describe_names
from medtune.models.weight_files import ADAPTER_CONFIG, FETCH_AGAIN

Tensors = dict[str, torch.Tensor]
PEFT_PREFIX = "base_model.model."
TENSOR = re.compile(
    r"base_model\.model\.(?P<module>.+)\.lora_(?:(?P<factor>[AB])(?:\.default)?\.weight"
    r"|magnitude_vector(?:\.default)?(?:\.weight)?)"
)
REVERSED = {native: old for old, parts in MODULES.items() for native in parts}
# What an adapter's configuration must not have: the reason stands in the message by its name.
REFUSED_SETTINGS = (
    "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "lora_bias",
    "trainable_token_indices", "fan_in_fan_out",
)  # fmt: skip


class Update(NamedTuple):
    """The tensors of one adapted module.

    a: (r, inputs).   b: (rows, r).   magnitude: (rows,), DoRA's length of each row, else None.
    """

    a: torch.Tensor
    b: torch.Tensor
    magnitude: torch.Tensor | None = None


@dataclass
class Adapter:
    """An adapter: its settings, and by layer and module within it the updates."""

    settings: dict[str, Any]
    layers: dict[int, dict[str, Update]] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Columns of B."""
        return self.settings["r"]


def read_adapter_settings(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json of a LoRA adapter. Raises CheckpointError naming what is not."""
    path = folder / ADAPTER_CONFIG
    settings = read_object(path, FETCH_AGAIN)
    if settings.get("peft_type") != "LORA" or type(settings.get("r")) is not int:
        raise CheckpointError(
            f"{path}: expected a LoRA adapter (peft_type LORA and its rank r), found peft_type "
            f"{settings.get('peft_type')!r} and r {settings.get('r')!r}."
        )
    refused = [name for name in REFUSED_SETTINGS if settings.get(name)]
    refused += ["bias"] if settings.get("bias", "none") != "none" else []
    if refused:
        raise CheckpointError(
            f"{path}: expected an adapter of low-rank factors alone, found {refused[0]}: "
            f"{json.dumps(settings[refused[0]], ensure_ascii=False)}. Merge it into its base with "
            "the program that trained it, and convert the merged model."
        )
    return settings


def group_updates(
    where: Path, tensors: Tensors, settings: dict[str, Any], layer_prefix: str, known: Iterable[str]
) -> Adapter:
    """Return an adapter's tensors by layer and module.

    layer_prefix, known: how names of layers begin, and the modules in them, in the format expected.
    Raises CheckpointError naming a tensor that has no place there, or lacks its counterpart.
    """
    pattern = re.compile(rf"{re.escape(layer_prefix)}(\d+)\.({'|'.join(map(re.escape, known))})")
    grouped: dict[tuple[int, str], Tensors] = {}
    for name, tensor in tensors.items():
        found = TENSOR.fullmatch(name)
        place = found and pattern.fullmatch(found["module"])
        if not found or not place:
            raise CheckpointError(
                f"{where}: expected the factors of layers of {layer_prefix}N, found {name}: this "
                "adapter is for another model or format, or adapts what cannot be converted."
            )
        kind = {"A": "a", "B": "b"}.get(found["factor"], "magnitude")
        grouped.setdefault((int(place[1]), place[2]), {})[kind] = tensor
    check_whole(where, grouped, settings)
    adapter = Adapter(settings)
    for (number, module), parts in sorted(grouped.items(), key=lambda item: item[0][0]):
        adapter.layers.setdefault(number, {})[module] = Update(**parts)
    return adapter


def check_whole(
    where: Path, grouped: dict[tuple[int, str], Tensors], settings: dict[str, Any]
) -> None:
    """Refuse an adapter that lacks a factor somewhere, or has one of another rank."""
    rank, kinds = settings["r"], {"a", "b", *(["magnitude"] if settings.get("use_dora") else [])}
    wrong = [
        f"layer {number}, {module}"
        for (number, module), parts in grouped.items()
        if parts.keys() != kinds or parts["a"].size(0) != rank or parts["b"].size(1) != rank
    ]
    if wrong or not grouped:
        found = describe_names(wrong) if wrong else "no tensors at all"
        raise CheckpointError(
            f"{where}: expected {' and '.join(sorted(kinds))} of rank {rank} for each adapted "
            f"module, found others in {found}. {FETCH_AGAIN}"
        )


def check_rows(where: Path, layer: int, module: str, update: Update, rows: int) -> None:
    """Refuse an update of a module of another size than the base has."""
    if update.b.size(0) != rows:
        raise CheckpointError(
            f"{where}: expected factors for {rows:,} rows in layer {layer}, {module} (the sizes of "
            f"the base), found {update.b.size(0):,}; give the base that it was trained on as "
            "--base_model."
        )


def split_update(update: Update, parts: tuple[str, ...], rows: dict[str, int]) -> dict[str, Update]:
    """Return the update of a fused module as those of its parts: A whole, the rows divided."""
    sizes = [rows[part] for part in parts]
    bs = update.b.split(sizes)
    magnitudes = [None] * len(parts) if update.magnitude is None else update.magnitude.split(sizes)
    return {
        part: Update(update.a, b, magnitude)
        for part, b, magnitude in zip(parts, bs, magnitudes, strict=True)
    }


def to_native(where: Path, adapter: Adapter, config: GlmConfig) -> Adapter:
    """Return an adapter for the old format as one for glm: the same function of its input."""
    rows = module_rows(config)
    native = Adapter(dict(adapter.settings))
    for number, updates in adapter.layers.items():
        native.layers[number] = {}
        for module, update in updates.items():
            parts = MODULES[module]
            check_rows(where, number, module, update, sum(rows[part] for part in parts))
            native.layers[number] |= split_update(update, parts, rows)
    return native


def to_old_format(where: Path, adapter: Adapter, config: GlmConfig) -> Adapter:
    """Return an adapter for glm as one for the old format.

    Where query, key and value share A, as conversion leaves them, it is exactly what it was before.
    Else A is the three below each other and B has theirs as blocks, at a rank of their sum: the
    same product, with alpha raised so that its factor is the same.
    """
    rows = module_rows(config)
    old = Adapter(dict(adapter.settings))
    for number, updates in adapter.layers.items():
        layer = old.layers.setdefault(number, {})
        for module, update in updates.items():
            check_rows(where, number, module, update, rows[module])
            if REVERSED[module] != FUSED:
                layer[REVERSED[module]] = update
        fused = {part: updates[part] for part in MODULES[FUSED] if part in updates}
        if fused:
            layer[FUSED] = join_updates(where, fused, rows)
    widen(where, old)
    return old


def join_updates(where: Path, fused: dict[str, Update], rows: dict[str, int]) -> Update:
    """Return the updates of query, key and value as one of the fused module."""
    parts, factors = MODULES[FUSED], list(fused.values())
    a, b = [update.a for update in factors], [update.b for update in factors]
    magnitudes = [update.magnitude for update in factors if update.magnitude is not None]
    if magnitudes and len(fused) < len(parts):
        raise CheckpointError(
            f"{where}: expected DoRA on query, key and value or on none of them, found it on "
            f"{', '.join(fused)}: a length for the other rows is not in the adapter."
        )
    magnitude = torch.cat(magnitudes) if magnitudes else None
    if len(fused) == len(parts) and all(torch.equal(a[0], other) for other in a[1:]):
        return Update(a[0], torch.cat(b), magnitude)
    rank = a[0].size(0)
    blocks = a[0].new_zeros(sum(rows[part] for part in parts), rank * len(fused))
    start = 0
    for part in parts:
        if part in fused:
            column = rank * list(fused).index(part)
            blocks[start : start + rows[part], column : column + rank] = fused[part].b
        start += rows[part]
    return Update(torch.cat(a), blocks, magnitude)


def widen(where: Path, adapter: Adapter) -> None:
    """Enter the rank and alpha of fused modules that became wider, if any did.

    Raises CheckpointError if the layers came out at different ranks.
    """
    ranks = {
        update.a.size(0)
        for updates in adapter.layers.values()
        for module, update in updates.items()
        if module == FUSED
    }
    if len(ranks) > 1:
        raise CheckpointError(
            f"{where}: expected the same factors in each layer, found fused ranks {sorted(ranks)}."
        )
    rank = next(iter(ranks), adapter.rank)
    if rank != adapter.rank:
        wider = rank // adapter.rank
        factor = wider**0.5 if adapter.settings.get("use_rslora") else wider
        name = FUSED.rpartition(".")[2]
        adapter.settings["rank_pattern"] = {name: rank}
        adapter.settings["alpha_pattern"] = {name: adapter.settings["lora_alpha"] * factor}


def adapter_tensors(adapter: Adapter, layer_prefix: str) -> Tensors:
    """Return an adapter's tensors by the names that PEFT gives them."""
    tensors: Tensors = {}
    for number, updates in sorted(adapter.layers.items()):
        for module, update in updates.items():
            name = f"{PEFT_PREFIX}{layer_prefix}{number}.{module}"
            tensors[f"{name}.lora_A.weight"] = update.a.clone()
            tensors[f"{name}.lora_B.weight"] = update.b.contiguous()
            if update.magnitude is not None:
                tensors[f"{name}.lora_magnitude_vector"] = update.magnitude.contiguous()
    return tensors


def target_settings(adapter: Adapter, layer_prefix: str, num_layers: int) -> dict[str, Any]:
    """Return the settings with the modules that are adapted.

    They are named as in all layers; where layers differ each is named, in place of what chose them.
    """
    settings = dict(adapter.settings)
    modules = {frozenset(updates) for updates in adapter.layers.values()}
    if len(modules) == 1 and len(adapter.layers) == num_layers:
        targets = sorted(module.rpartition(".")[2] for module in next(iter(modules)))
    else:
        targets = [
            f"{layer_prefix}{number}.{module}"
            for number, updates in sorted(adapter.layers.items())
            for module in updates
        ]
    settings |= {"target_modules": targets, "layers_to_transform": None, "layers_pattern": None}
    return settings


def convert_adapter(
    where: Path, tensors: Tensors, settings: dict[str, Any], config: GlmConfig, reverse: bool
) -> tuple[Tensors, dict[str, Any]]:
    """Return tensors and settings of an adapter in the other format.

    config: the sizes of the base.   reverse: from glm to the old format.   Raises CheckpointError.
    """
    source, target = (NATIVE_LAYER, OLD_LAYER) if reverse else (OLD_LAYER, NATIVE_LAYER)
    known = REVERSED if reverse else MODULES
    adapter = group_updates(where, tensors, settings, source, known)
    change = to_old_format if reverse else to_native
    converted = change(where, adapter, config)
    return (
        adapter_tensors(converted, target),
        target_settings(converted, target, config.num_hidden_layers),
    )
