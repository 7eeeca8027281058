"""Add LoRA adapters into their base: exactly, checked by logits, whole or not at all.

The sum W + (alpha / r) B A is made in float32, layer by layer, and rounded once to the base's
type. A probe text goes through the model before (adapter on), after, and once more through the
saved folder; a difference above tolerance fails the merge and leaves nothing behind.
"""

import gc
import shutil
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medtune.arguments import MergeArguments
from medtune.common.disk import check_room
from medtune.common.errors import CheckpointError
from medtune.common.files import apply_umask, staged_folder, write_json
from medtune.common.lineage import (
    LINEAGE_FILE,
    check_complete,
    describe_outputs,
    describe_weights,
    is_already_written,
    mark_complete,
    read_lineage,
    write_lineage,
)
from medtune.common.log import logger
from medtune.models.adapters import check_mergeable, load_adapter
from medtune.models.families import check_model_type
from medtune.models.loading import load_weights, read_config, read_tokenizer, resolve_model

REPORT_FILE = "merge_report.json"
PROBE_TEXT = "患者女，四十二岁，发热伴咳嗽三天，体温三十八度五，应当如何处理？ What should be done?"
# Largest logit difference allowed, as a share of the largest logit. float32: rounding of sums.
# bfloat16: each merged weight is rounded to 8 bits once more, over all layers.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class ProbeDifference:
    """How far apart two models' logits on the probe text are; `relative` is what is judged."""

    max_absolute: float
    mean_absolute: float
    relative: float
    tolerance: float


def merge_adapters(arguments: MergeArguments) -> None:
    """Merge the adapters in order and write a folder that loads with stock transformers.

    Raises ConfigError (the output folder holds something else) and CheckpointError (base and
    adapter do not belong together, sizes that do not fit, a difference above tolerance).
    """
    started = time.monotonic()
    base = resolve_model(arguments.base_model)
    for folder in arguments.lora_model:
        check_complete(folder, "adapter")
        check_mergeable(folder)
    trained_from = describe_weights(base)
    inputs = {
        "stage": "merge",
        "base": trained_from,
        "adapters": [describe_weights(folder) for folder in arguments.lora_model],
        "resize_emb": arguments.resize_emb,
    }
    output = Path(arguments.output_dir)
    if is_already_written(output, inputs):
        logger.info("%s is complete: nothing to do", output)
        return
    check_model_type(arguments.model_type, read_config(base).model_type)
    check_trained_on(arguments, trained_from)
    tokenizer = find_tokenizer(arguments, base)
    check_room(output, weight_bytes(base), "the merged model")
    model = load_weights(base, "auto")
    fit_embedding(model, tokenizer, arguments.resize_emb)
    probe_ids = torch.tensor([tokenizer(PROBE_TEXT)["input_ids"]])
    report: dict[str, Any] = {"dtype": str(model.dtype), "probe_tokens": probe_ids.size(1)}
    report["adapters"] = []
    for folder in arguments.lora_model:
        model, difference = merge_one(model, folder, probe_ids)
        report["adapters"].append({"path": folder, **asdict(difference)})
        logger.info("merged %s: %s", folder, describe(difference))
    with staged_folder(output) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        copy_generation_config(arguments.lora_model[-1], staging)
        merged_logits, dtype = probe(model, probe_ids), model.dtype
        del model
        gc.collect()  # the saved copy is loaded next: two of them may not fit
        saved = load_weights(str(staging), "auto")
        reloaded = compare(merged_logits, probe(saved, probe_ids), dtype)
        check_difference(reloaded, f"{output} as saved")
        write_json(staging / REPORT_FILE, {**report, "reloaded": asdict(reloaded)})
        write_lineage(staging / LINEAGE_FILE, inputs, describe_outputs(staging))
        apply_umask(staging)
        mark_complete(staging, stage="merge", seconds=round(time.monotonic() - started, 1))
    logger.info("complete: %s", output)


def weight_bytes(folder: str) -> int:
    """Return the bytes of a model's weight files; 0 for a hub name, whose files are elsewhere."""
    return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


def check_trained_on(arguments: MergeArguments, base: dict[str, Any]) -> None:
    """Raise CheckpointError if the first adapter's lineage names another base."""
    lineage = read_lineage(arguments.lora_model[0])
    if lineage is None or arguments.ignore_lineage:
        return
    trained_on = lineage["inputs"]["base"]
    if trained_on["sha256"] not in (None, base["sha256"]):
        raise CheckpointError(
            f"--base_model {base['path']}: expected the base that {arguments.lora_model[0]} was "
            f"trained on ({trained_on['path']}, sha256 {trained_on['sha256'][:12]}), found sha256 "
            f"{str(base['sha256'])[:12]}. Give that base, or --ignore_lineage if both are the same "
            "model saved in another way."
        )


def find_tokenizer(arguments: MergeArguments, base: str) -> PreTrainedTokenizerBase:
    """Return the named tokenizer, else the one beside the adapter, else the base's."""
    folder = arguments.lora_model[-1]
    has_own = (Path(folder) / "tokenizer_config.json").exists()
    name = arguments.tokenizer_path or (folder if has_own else base)
    return read_tokenizer(name)


def fit_embedding(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, may_grow: bool
) -> None:
    """Grow the embedding to the tokenizer if asked; rows beyond the tokenizer are never removed."""
    num_rows, num_tokens = model.get_input_embeddings().num_embeddings, len(tokenizer)
    if num_tokens <= num_rows:
        return
    if not may_grow:
        raise CheckpointError(
            f"expected at most {num_rows:,} tokens (the base's embedding rows), found a tokenizer "
            f"with {num_tokens:,}; pass --resize_emb to add rows, or the tokenizer of the base."
        )
    model.resize_token_embeddings(num_tokens)
    logger.info("embedding grown from %s to %s rows", f"{num_rows:,}", f"{num_tokens:,}")


def merge_one(
    model: PreTrainedModel, folder: str, probe_ids: torch.Tensor
) -> tuple[PreTrainedModel, ProbeDifference]:
    """Return the model with one adapter merged in, and the difference that it made to the probe."""
    peft_model = load_adapter(model, folder)
    with_adapter = probe(peft_model, probe_ids)
    merge_in_float32(peft_model, folder)
    with warnings.catch_warnings():  # all is merged: this only takes the wrapping off
        warnings.filterwarnings("ignore", message="All adapters are already merged")
        merged = peft_model.merge_and_unload()
    difference = compare(with_adapter, probe(merged, probe_ids), merged.dtype)
    check_difference(difference, folder)
    return merged, difference


@torch.no_grad()
def merge_in_float32(peft_model: PeftModel, folder: str) -> None:
    """Merge each adapted layer in float32 and round once; memory grows by one layer at a time.

    Raises CheckpointError naming the adapter's folder if a merged weight is not finite.
    """
    for layer in peft_model.modules():
        if isinstance(layer, BaseTunerLayer):
            weight = layer.get_base_layer().weight
            dtype = weight.dtype
            weight.data = weight.data.float()
            try:
                layer.merge(safe_merge=True)
            except ValueError as error:
                raise CheckpointError(f"{folder}: expected finite weights: {error}") from error
            weight.data = weight.data.to(dtype)


@torch.no_grad()
def probe(model: torch.nn.Module, probe_ids: torch.Tensor) -> torch.Tensor:
    """Return the probe's logits in float32, (1, tokens, vocabulary)."""
    return model.eval()(input_ids=probe_ids).logits.float()


def compare(before: torch.Tensor, after: torch.Tensor, dtype: torch.dtype) -> ProbeDifference:
    """Return the difference between two logit tensors of a model with weights of `dtype`."""
    difference = (before - after).abs()
    largest = before.abs().max().item()
    return ProbeDifference(
        max_absolute=difference.max().item(),
        mean_absolute=difference.mean().item(),
        relative=difference.max().item() / largest,
        tolerance=TOLERANCES[dtype],
    )


def check_difference(difference: ProbeDifference, what: str) -> None:
    """Raise CheckpointError if the merged model is another one (a NaN counts as another)."""
    if not difference.relative <= difference.tolerance:
        raise CheckpointError(
            f"{what}: expected the same logits before and after, found {describe(difference)}; "
            "nothing was written. The adapter or the base is damaged."
        )


def describe(difference: ProbeDifference) -> str:
    """Return the difference as a phrase for logs and errors."""
    return (
        f"logits differ by at most {difference.max_absolute:.2e}, on average "
        f"{difference.mean_absolute:.2e}, relative {difference.relative:.2e} (tolerance "
        f"{difference.tolerance:.0e})"
    )


def copy_generation_config(adapter: str, target: Path) -> None:
    """Take over what the last stage taught the model to stop at."""
    source = Path(adapter) / "generation_config.json"
    if source.exists():
        shutil.copyfile(source, target / source.name)
