"""What other programs need of a model's folder: vLLM, transformers serve, llama.cpp's converter.

They find the class by config.json, take tensors by name, and stop where generation_config.json
says. docs/serving.md has the commands.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PretrainedConfig

from medtune.common.files import read_json
from medtune.models.families import stop_token_ids
from medtune.models.loading import read_config
from medtune.models.weight_files import CONFIG

GENERATION_CONFIG = "generation_config.json"
TOKENIZER = "tokenizer.json"


def find_problems(folder: Path) -> list[str]:
    """Return what a folder lacks to be served, each as a sentence; empty if it lacks nothing.

    Reads configurations and the headers of the weights only.
    """
    config = read_config(str(folder))
    problems = [*problems_of_config(folder, config), *problems_of_tensors(folder, config)]
    if not (folder / TOKENIZER).is_file():
        return [*problems, f"no {TOKENIZER}: only programs that have its tokenizer's class read it"]
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > config.vocab_size:
        problems.append(f"vocab_size {config.vocab_size:,}, but {needed:,} tokens")
    if tokenizer.chat_template is None:
        problems.append("no chat template: it completes text and cannot be asked as a chat")
    elif missing := sorted(set(stop_token_ids(tokenizer, set())) - set(stop_ids(folder))):
        names = ", ".join(map(str, tokenizer.convert_ids_to_tokens(missing)))
        problems.append(
            f"eos_token_id of {GENERATION_CONFIG} is without {names}: replies will not stop there"
        )
    return problems


def problems_of_config(folder: Path, config: PretrainedConfig) -> list[str]:
    """Return what config.json lacks: the name of the class, the type of the weights."""
    problems = []
    with torch.device("meta"):
        expected = type(AutoModelForCausalLM.from_config(config)).__name__
    if config.architectures != [expected]:
        problems.append(f"architectures {config.architectures} in {CONFIG}, expected {[expected]}")
    if not {"dtype", "torch_dtype"} & read_json(folder / CONFIG).keys():
        problems.append(f"no dtype in {CONFIG}: it would be served in another type")
    return problems


def problems_of_tensors(folder: Path, config: PretrainedConfig) -> list[str]:
    """Return which tensors differ from those of transformers' class, by name and shape."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    tied = set(model.all_tied_weights_keys)  # stored once, under the other name
    wrong = [
        name
        for name in sorted(expected.keys() | found.keys())
        if found.get(name) != expected.get(name) and not (name in tied and name not in found)
    ]
    return [f"{len(wrong)} tensors are not those of the class (first: {wrong[0]})"] if wrong else []


def stop_ids(folder: Path) -> list[int]:
    """Return the ids that generation_config.json stops at."""
    if not (folder / GENERATION_CONFIG).is_file():
        return []
    ids = GenerationConfig.from_pretrained(folder).eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
