"""Weights read tensor by tensor and written tensor by tensor: memory holds one file at a time.

A .bin file is a pickle; it is opened with torch's reader that makes tensors and nothing else.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from medtune.common.errors import CheckpointError
from medtune.common.files import write_json
from medtune.models.conversion.layout import Shape
from medtune.models.weight_files import (
    FETCH_AGAIN,
    INDEX,
    NUM_NAMED,
    WEIGHTS,
    check_index,
    check_names,
    damaged,
)

BIN_WEIGHTS, BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TYPE_NAMES = {dtype: name for name, dtype in TYPES.items()}
Load = Callable[[str], torch.Tensor]


class Info(NamedTuple):
    """What a file's header says of a tensor. dtype: as safetensors writes it, such as BF16."""

    dtype: str
    shape: Shape


class Shard(NamedTuple):
    """A file of weights and what is in it, in its order."""

    path: Path
    tensors: dict[str, Info]


def find_shards(folder: Path) -> list[Shard]:
    """Return the files of a model's weights with what they hold; safetensors before pickles.

    Raises CheckpointError: no weights, a damaged file, an index that is not true.
    """
    for index_name, single in ((INDEX, WEIGHTS), (BIN_INDEX, BIN_WEIGHTS)):
        index = folder / index_name
        if index.is_file():
            shards: dict[str, Shard] = {}

            def names_of(path: Path, shards: dict[str, Shard] = shards) -> set[str]:
                shards[path.name] = read_shard(path)
                return set(shards[path.name].tensors)

            check_index(index, names_of)
            return [shards[name] for name in sorted(shards)]
        if (folder / single).is_file():
            return [read_shard(folder / single)]
    raise CheckpointError(
        f"{folder}: expected the weights of a model ({INDEX}, {WEIGHTS}, {BIN_INDEX} or "
        f"{BIN_WEIGHTS}), found none of them. {FETCH_AGAIN}"
    )


def read_shard(path: Path) -> Shard:
    """Return what a file of weights holds; the values stay on the disk. Raises CheckpointError."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                infos = {n: Info(s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
        except (SafetensorError, OSError) as error:
            raise damaged(path, error) from error
    else:
        infos = {
            name: Info(TYPE_NAMES.get(t.dtype, str(t.dtype)), tuple(t.shape))
            for name, t in load_pickle(path).items()
        }
    return Shard(path, infos)


@contextmanager
def opened(path: Path) -> Iterator[Load]:
    """Give a function from a name to that tensor of the file, which is mapped, not read whole."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            yield file.get_tensor
    else:
        yield load_pickle(path).__getitem__


def load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a .bin file, mapped into memory. Raises CheckpointError.

    weights_only: torch refuses a pickle that would run anything but making tensors.
    """
    try:
        values: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file may fail anywhere in it
        raise CheckpointError(
            f"{path}: expected tensors as torch.save writes them, found a file that torch does not "
            f"read with weights_only ({type(error).__name__}: {first_line(error)}): it is cut off, "
            f"damaged, or would run code. {FETCH_AGAIN}"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path}: expected tensors by name, found {type(values).__name__}. {FETCH_AGAIN}"
        )
    others = [name for name, value in values.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CheckpointError(
            f"{path}: expected tensors by name alone, found {type(values[others[0]]).__name__} at "
            f"{others[0]!r}: this is no file of weights. {FETCH_AGAIN}"
        )
    return values


def first_line(error: Exception) -> str:
    """Return the beginning of an error's text."""
    return str(error).strip().partition("\n")[0][:200]


def write_shard(shard: Shard, tensors: Iterator[torch.Tensor]) -> None:
    """Write a safetensors file: the header first, then each tensor as it comes.

    The library's own writer copies all tensors of a file before it writes the first.
    tensors: those of the shard, in its order.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, info in shard.tensors.items():
        start, end = end, end + num_bytes(info)
        header[name] = {
            "dtype": info.dtype, "shape": list(info.shape), "data_offsets": [start, end]
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with shard.path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, info), tensor in zip(shard.tensors.items(), tensors, strict=True):
            assert (TYPE_NAMES[tensor.dtype], tuple(tensor.shape)) == info, name
            file.write(tensor.contiguous().view(torch.uint8).numpy().data)


def num_bytes(info: Info) -> int:
    """Return the bytes of a tensor."""
    return TYPES[info.dtype].itemsize * torch.Size(info.shape).numel()


def write_index(folder: Path, shards: list[Shard]) -> None:
    """Write which tensor is in which file."""
    names = {name: shard.path.name for shard in shards for name in shard.tensors}
    total = sum(num_bytes(info) for shard in shards for info in shard.tensors.values())
    write_json(
        folder / INDEX,
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(names.items()))},
    )


def check_written(shards: list[Shard]) -> None:
    """Compare what stands in the files that were written with what should."""
    for shard in shards:
        found = read_shard(shard.path)
        check_names(shard.path, shard.path, set(found.tensors), set(shard.tensors))
        assert found.tensors == shard.tensors, f"{shard.path}: not as it was to be written"


def describe_names(names: list[str]) -> str:
    """Return how many names there are and the first of them."""
    return f"{len(names):,} (first: {', '.join(names[:NUM_NAMED])})"
