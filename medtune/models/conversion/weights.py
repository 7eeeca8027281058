"""The weights of an old model written as a native one's, file by file."""

from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import GlmConfig

from medtune.common.errors import CheckpointError
from medtune.models.conversion.config import ORIGINAL
from medtune.models.conversion.layout import (
    DROPPED,
    EMBEDDING,
    HEAD,
    Shape,
    fused_shape,
    layout_of,
    split_rows,
)
from medtune.models.conversion.shards import (
    TYPES,
    Info,
    Shard,
    check_written,
    describe_names,
    opened,
    write_index,
    write_shard,
)
from medtune.models.weight_files import FETCH_AGAIN, WEIGHTS

Layout = dict[str, dict[str, Shape]]


def convert_weights(shards: list[Shard], config: GlmConfig, output: Path) -> int:
    """Write the native weights into a folder, one file for each old one; return their bytes.

    Changes config: the type of the weights, and whether the head is tied to the embedding: a head
    of its own is kept, whatever the old configuration says, because the old code used it.
    Raises CheckpointError naming a tensor that is missing, unknown or of another shape.
    """
    where = shards[0].path.parent
    found = {name: shard for shard in shards for name in shard.tensors}
    config.tie_word_embeddings &= HEAD not in found or is_same(found[HEAD], found.get(EMBEDDING))
    layout = layout_of(config)
    dropped = {*DROPPED, *([HEAD] if config.tie_word_embeddings else [])}
    check_types(shards, dropped)
    check_names_and_shapes(where, found, layout, dropped)
    config.dtype = TYPES[found[EMBEDDING].tensors[EMBEDDING].dtype]
    sources = [shard for shard in shards if shard.tensors.keys() - dropped]
    targets = [
        Shard(output / name_of(number, len(sources)), planned(shard, layout))
        for number, shard in enumerate(sources, start=1)
    ]
    for source, target in zip(sources, targets, strict=True):
        write_shard(target, native_tensors(source, layout))
    if len(targets) > 1:
        write_index(output, targets)
    check_written(targets)
    return sum(target.path.stat().st_size for target in targets)


def name_of(number: int, count: int) -> str:
    """Return the name of the file with this number. Example: model-00001-of-00002.safetensors"""
    return WEIGHTS if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"


def is_same(head: Shard, embedding: Shard | None) -> bool:
    """True if the head in one file is the embedding in another, value by value."""
    if embedding is None:
        return False
    with opened(head.path) as load_head, opened(embedding.path) as load_embedding:
        return torch.equal(load_head(HEAD), load_embedding(EMBEDDING))


def check_types(shards: list[Shard], dropped: set[str]) -> None:
    """Refuse tensors of integers: their scales are part of a quantised model."""
    for shard in shards:
        for name, info in shard.tensors.items():
            if name not in dropped and (info.dtype not in TYPES or name.endswith("weight_scale")):
                raise CheckpointError(
                    f"{shard.path}: expected 16-bit or 32-bit weights, found {name} of type "
                    f"{info.dtype}: a checkpoint quantised to int4 or int8. {ORIGINAL}"
                )


def check_names_and_shapes(
    where: Path, found: dict[str, Shard], layout: Layout, dropped: set[str]
) -> None:
    """Refuse weights that are not exactly those that the configuration describes."""
    unknown = sorted(found.keys() - layout.keys() - dropped)
    missing = sorted(layout.keys() - found.keys())
    wrong = [
        f"{name}: {found[name].tensors[name].shape}, expected {fused_shape(parts)}"
        for name, parts in layout.items()
        if name in found and found[name].tensors[name].shape != fused_shape(parts)
    ]
    problems = {"missing": missing, "unknown": unknown, "of another shape": wrong}
    if any(problems.values()):
        listed = "; ".join(f"{w}: {describe_names(n)}" for w, n in problems.items() if n)
        raise CheckpointError(
            f"{where}: expected the {len(layout):,} tensors that its config.json describes, found "
            f"{listed}. The files are incomplete, or the configuration is another model's. "
            f"{FETCH_AGAIN}"
        )


def planned(source: Shard, layout: Layout) -> dict[str, Info]:
    """Return what the native file holds that is made from this one, in its order."""
    return {
        name: Info(info.dtype, shape)
        for old, info in source.tensors.items()
        for name, shape in layout.get(old, {}).items()
    }


def native_tensors(source: Shard, layout: Layout) -> Iterator[torch.Tensor]:
    """Yield the tensors of `planned`; the file is mapped as long as this runs."""
    with opened(source.path) as load:
        for old in source.tensors:
            if old in layout:
                yield from split_rows(load(old), layout[old]).values()
