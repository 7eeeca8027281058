"""What is checked before weights are loaded: own code, pickles, the index, the files' headers.

Weights come from safetensors alone: a pickle is never opened. Every refusal is a CheckpointError
that names the file.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers.utils import cached_file

from medtune.common.errors import CheckpointError
from medtune.common.files import read_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADAPTER_CONFIG = "adapter_config.json"
TRAINED_TOKENS = "trainable_token_indices"  # in ADAPTER_CONFIG: ids whose rows it brings
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FETCH_AGAIN = "Fetch or write it again."
NUM_NAMED = 3


def check_no_own_code(name: str, files: Collection[str], **options: Any) -> None:
    """Refuse a model that brings Python code to be run; nothing of it runs before that.

    name: a folder or a hub name.   files: which of its JSON files may ask for code.
    options: revision and cache_dir, for a hub name.
    Raises CheckpointError naming the file. There is no option that allows such code.
    """
    for file in files:
        path = find_file(name, file, **options)
        content = read_if_there(path) if path else {}
        if "auto_map" in content:
            kind = f" (model_type {content['model_type']!r})" if "model_type" in content else ""
            raise CheckpointError(
                f"{path}: expected a model in its native format, found auto_map{kind}: it asks for "
                "Python code that comes with the model, which is never run here; there is no flag "
                "for it. Convert ChatGLM2, ChatGLM3 and GLM-4 (python convert_chatglm.py "
                "--model_dir OLD --output_dir NEW); of others use the version for transformers' "
                "own classes. If transformers has this model_type itself, take auto_map out of "
                "the file."
            )


def find_file(name: str, file: str, **options: Any) -> Path | None:
    """Return the path of a model's file, fetched if need be, or None where there is none.

    A hub name that does not exist has none either: what loads it next says that better.
    """
    try:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False, **options)
    except (OSError, ValueError):
        return None
    return Path(path) if path else None


def check_model_folder(folder: Path) -> set[str]:
    """Return the names of a local folder's tensors; they are exactly what its own files say.

    Reads the headers of the files only.
    Raises CheckpointError: an adapter, pickles, no weights, a damaged file, an index that is not
    true or leads out of the folder.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            f"{folder}: expected a whole model, found {ADAPTER_CONFIG}: an adapter. Merge it into "
            "its base with merge_peft_adapter.py and give the merged folder."
        )
    if "transformers_weights" in read_if_there(folder / CONFIG):
        raise CheckpointError(
            f"{folder / CONFIG}: expected weights in {WEIGHTS} or those of {INDEX}, found "
            "transformers_weights, which names another file; take it out and rename the weights."
        )
    weights, index = folder / WEIGHTS, folder / INDEX
    if weights.exists() and index.exists():
        raise CheckpointError(
            f"{folder}: expected {WEIGHTS} or {INDEX}, found both: one of them is left over from "
            "another save; remove that one."
        )
    if index.exists():
        return check_index(index)
    if weights.exists():
        return read_names(weights)
    raise CheckpointError(
        f"{folder}: expected {WEIGHTS} or {INDEX}, found {describe_pickles(folder)}"
    )


def check_adapter_folder(folder: Path) -> None:
    """Refuse a folder without an adapter in safetensors. Reads its configuration only."""
    read_if_there(folder / ADAPTER_CONFIG)
    if (folder / ADAPTER_WEIGHTS).is_file() and (folder / ADAPTER_CONFIG).is_file():
        return
    if (folder / ADAPTER_CONFIG).is_file():
        found = describe_pickles(folder)
    elif (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        found = "a whole model: it needs no merge."
    else:
        found = f"no {ADAPTER_CONFIG}; the folder is incomplete or another one."
    raise CheckpointError(
        f"{folder}: expected an adapter ({ADAPTER_WEIGHTS} and {ADAPTER_CONFIG}), found {found}"
    )


def describe_pickles(folder: Path) -> str:
    """Return what a folder without safetensors holds instead, and the way out."""
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if not pickles:
        return "neither; the folder is incomplete. " + FETCH_AGAIN
    return (
        f"only pickles ({', '.join(pickles[:NUM_NAMED])}), which can run code when they are opened "
        "and are not loaded. Convert them where you trust them: load the folder with transformers "
        "or peft and call save_pretrained, which writes safetensors."
    )


def read_names(path: Path) -> set[str]:
    """Return the names of a safetensors file's tensors; its header also tells whether it is cut."""
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def check_index(index: Path, names_of: Callable[[Path], set[str]] = read_names) -> set[str]:
    """Return the tensors of an index that agrees with the files beside it in every name.

    names_of: gives the names of the tensors in a file that the index names.
    """
    weight_map = read_if_there(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{index}: expected weight_map, an object from tensors to files, found "
            f"{type(weight_map).__name__}. {FETCH_AGAIN}"
        )
    tensors_of: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        if not is_plain_name(file):
            raise CheckpointError(
                f"{index}: expected the name of a file in this folder for {tensor}, found "
                f"{file!r}; it would be read from elsewhere. {FETCH_AGAIN}"
            )
        tensors_of.setdefault(file, set()).add(tensor)
    for file, expected in sorted(tensors_of.items()):
        if not (index.parent / file).is_file():
            raise CheckpointError(
                f"{index.parent / file}: expected {len(expected):,} tensors here ({index.name} "
                f"says so), found no such file. {FETCH_AGAIN}"
            )
        check_names(index, index.parent / file, names_of(index.parent / file), expected)
    return set(weight_map)


def is_plain_name(file: Any) -> bool:
    """True for the name of a file in the same folder, on any system."""
    return isinstance(file, str) and file not in ("", ".", "..") and not set(file) & set("/\\:\0")


def check_names(index: Path, path: Path, found: set[str], expected: set[str]) -> None:
    """Refuse a shard with other tensors than the index maps to it.

    A tensor in two shards is one too many in the shard that the index does not name for it.
    """
    absent, extra = sorted(expected - found), sorted(found - expected)
    if absent or extra:
        raise CheckpointError(
            f"{path}: expected the {len(expected):,} tensors that {index.name} maps to it, found "
            f"{len(absent)} missing (first: {absent[:NUM_NAMED]}) and {len(extra)} too many "
            f"(first: {extra[:NUM_NAMED]}). {FETCH_AGAIN}"
        )


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file. Raises CheckpointError if it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a file of weights that cannot be read."""
    try:
        size = f"{path.stat().st_size:,} bytes"
    except OSError:
        size = "a file that cannot be opened"
    return CheckpointError(
        f"{path}: expected a whole safetensors file, found {size} that do not make one ({error}): "
        f"it is cut off or damaged. {FETCH_AGAIN}"
    )


def read_if_there(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, empty if there is none. Raises CheckpointError."""
    return read_object(path, FETCH_AGAIN) if path.is_file() else {}
