"""Add LoRA adapters into their base: exactly, checked by logits, whole or not at all.

The sum W + (alpha / r) B A is made in float32, layer by layer, and rounded once to the base's
type. A probe text goes through the model before (adapter on), after, and once more through the
saved folder; a difference above tolerance fails the merge and leaves nothing behind.
"""

import gc
import shutil
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from medtune.arguments import DEQUANTISED, MergeArguments
from medtune.common.disk import check_room
from medtune.common.errors import CheckpointError
from medtune.common.files import apply_umask, staged_folder, write_json
from medtune.common.lineage import (
    LINEAGE_FILE,
    check_complete,
    describe_outputs,
    describe_weights,
    is_already_made,
    mark_complete,
    read_lineage,
    write_lineage,
)
from medtune.common.log import logger
from medtune.models.adapters import check_mergeable, load_adapter
from medtune.models.families import check_model_type
from medtune.models.loading import load_weights, read_config, read_tokenizer, resolve_model
from medtune.models.probing import (
    PROBE_TEXT,
    TOLERANCES,
    ProbeDifference,
    check_difference,
    compare,
    describe,
    probe,
)
from medtune.models.quantised_bases import judge, lose_precision, probe_as_trained, trained_bits
from medtune.models.serving import find_problems
from medtune.models.token_growth import (
    add_rows,
    check_sizes,
    grow_to_adapter,
    num_rows_needed,
    num_rows_of,
)
from medtune.models.upload import check_repository, upload

REPORT_FILE = "merge_report.json"
DAMAGED = "The adapter or the base is damaged."


def merge_adapters(arguments: MergeArguments) -> None:
    """Merge the adapters in order into a folder that loads with stock transformers; upload it.

    Raises ConfigError (the output folder holds something else, a choice that is not made) and
    CheckpointError (base and adapter do not belong together, sizes that do not fit, a difference
    above tolerance).
    """
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
    if arguments.quantised_base:
        inputs["quantised_base"] = arguments.quantised_base
    if arguments.push_to_hub:
        check_repository(arguments.push_to_hub)
    output = Path(arguments.output_dir)
    bits = trained_bits(arguments)
    if is_already_made(output, inputs, "merge"):
        logger.info("%s is complete: nothing to do", output)
    else:
        check_model_type(arguments.model_type, read_whole_config(base).model_type)
        check_trained_on(arguments, trained_from)
        write_merged(arguments, base, bits, inputs)
        logger.info("complete: %s", output)
    if arguments.push_to_hub:
        upload(arguments, output)


def write_merged(
    arguments: MergeArguments, base: str, bits: int | None, inputs: dict[str, Any]
) -> None:
    """Merge, compare, and write the folder as a whole or not at all.

    bits: of the base's weights in training; None if they were as they are.
    """
    started = time.monotonic()
    output = Path(arguments.output_dir)
    tokenizer = find_tokenizer(arguments, base)
    check_room(output, weight_bytes(base), "the merged model")
    probe_ids = torch.tensor([tokenizer(PROBE_TEXT)["input_ids"]])
    adapters = arguments.lora_model
    trained = probe_as_trained(base, adapters[0], bits, probe_ids) if bits else None
    model = load_weights(base, "auto")
    for folder in adapters:
        grow_to_adapter(model, folder)
    fit_embedding(model, tokenizer, base, arguments.resize_emb)
    report: dict[str, Any] = {"dtype": str(model.dtype), "probe_tokens": probe_ids.size(1)}
    report["adapters"] = []
    if trained:
        whole_base = probe(model, probe_ids)
        if arguments.quantised_base == DEQUANTISED:
            lose_precision(model, trained)
    for folder in adapters:
        model, difference = merge_one(model, folder, probe_ids)
        report["adapters"].append({"path": folder, **asdict(difference)})
        logger.info("merged %s: %s", folder, describe(difference))
    merged_logits, dtype = probe(model, probe_ids), model.dtype
    if trained:
        report["quantised_base"] = judge(arguments, trained, whole_base, merged_logits, dtype)
    with staged_folder(output) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        copy_generation_config(adapters[-1], staging)
        del model
        gc.collect()  # the saved copy is loaded next: two of them may not fit
        saved = load_weights(str(staging), "auto")
        reloaded = compare(merged_logits, probe(saved, probe_ids), TOLERANCES[dtype])
        check_difference(reloaded, f"{output} as saved", DAMAGED)
        report |= {"reloaded": asdict(reloaded), "serving_problems": find_problems(staging)}
        for problem in report["serving_problems"]:
            logger.warning("%s: %s", output, problem)
        write_json(staging / REPORT_FILE, report)
        write_lineage(staging / LINEAGE_FILE, inputs, describe_outputs(staging))
        apply_umask(staging)
        mark_complete(staging, stage="merge", seconds=round(time.monotonic() - started, 1))


def read_whole_config(base: str) -> PretrainedConfig:
    """Return the base's config. Raises CheckpointError for weights that are quantised in files."""
    config = read_config(base)
    if getattr(config, "quantization_config", None):
        raise CheckpointError(
            f"{base}: expected a base with whole weights, found quantization_config in its "
            "config.json: nothing can be added to quantised weights. Give the model that it was "
            "made from."
        )
    return config


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
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, base: str, may_grow: bool
) -> None:
    """Grow the embedding to the tokenizer if asked; rows beyond the tokenizer are never removed.

    An adapter without rows for tokens of its own was trained elsewhere: they start as the mean of
    their pieces. Raises CheckpointError.
    """
    if may_grow and num_rows_needed(tokenizer) > num_rows_of(model):
        add_rows(model, tokenizer, read_tokenizer(base))
    check_sizes(model, tokenizer, base)


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
    tolerance = TOLERANCES[merged.dtype]
    difference = compare(with_adapter, probe(merged, probe_ids), tolerance)
    check_difference(difference, folder, DAMAGED)
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


def copy_generation_config(adapter: str, target: Path) -> None:
    """Take over what the last stage taught the model to stop at."""
    source = Path(adapter) / "generation_config.json"
    if source.exists():
        shutil.copyfile(source, target / source.name)
