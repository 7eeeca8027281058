"""Merging what was trained on a base in 4 or 8 bits: into which weights, and what that changes.

An adapter that was trained on quantised weights has learnt with their errors. It can be added to
the original weights, which it has never seen, or to what the quantised ones stand for, which is
what was trained. Neither is right for everybody, so the user says which.
"""

import gc
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from medtune.arguments import DEQUANTISED, ORIGINAL, MergeArguments, ModelArguments
from medtune.common.errors import ConfigError
from medtune.common.lineage import read_lineage
from medtune.common.log import logger
from medtune.models.adapters import load_adapter
from medtune.models.loading import load_model
from medtune.models.probing import TOLERANCES, check_difference, compare, describe, probe

INT8_LEVELS = 127
# Where quantisation is part of the difference, it is measured on the base alone, and as much again
# is left for what the adapter makes of it. Measured with adapters of 12 steps: 0.5 to 1.3 times
# the base's own (two layers, 4 and 8 bits, CPU, 2026-11).
TIMES_THE_BASE = 2.0


@dataclass(frozen=True)
class AsTrained:
    """What is remembered of the quantised model, which is gone when the merge begins.

    logits, base_logits: of the probe, with the adapter and without.   layers: the names of the
    quantised ones.   dtype: of the other weights, in which it computes.
    """

    bits: int
    logits: torch.Tensor
    base_logits: torch.Tensor
    layers: list[str]
    dtype: torch.dtype


def trained_bits(arguments: MergeArguments) -> int | None:
    """Return how many bits the base had in training; None for a whole one or where nobody says.

    Raises ConfigError if --quantised_base is missing, or is given where it means nothing.
    """
    options = [options_of(folder) for folder in arguments.lora_model]
    bits = next((o["quantization_bit"] for o in options if o.get("quantization_bit")), None)
    if bits is None:
        if arguments.quantised_base:
            raise ConfigError(
                f"--quantised_base {arguments.quantised_base}: expected an adapter whose "
                "lineage.json says that its base was quantised, found none; leave the option out."
            )
        return None
    if len(options) > 1:
        raise ConfigError(
            f"--lora_model: expected one adapter, found {len(options)}, of which one was trained "
            f"on a {bits}-bit base; merge them one after the other, each with --quantised_base."
        )
    if arguments.quantised_base is None:
        raise ConfigError(
            f"{arguments.lora_model[0]} was trained on a base in {bits} bits: say what it shall be "
            "added to.\n"
            "  --quantised_base dequantised: to what the quantised weights stand for: the model "
            "that was trained, its loss of precision included.\n"
            "  --quantised_base original: to the base's own weights: more precise ones, which the "
            "adapter was not trained on. The difference is printed."
        )
    return bits


def options_of(folder: str) -> dict[str, Any]:
    """Return the options of the stage that made an adapter; empty for one made elsewhere."""
    return ((read_lineage(folder) or {}).get("inputs") or {}).get("options") or {}


def warn_of_other_bits(arguments: ModelArguments, adapter: str) -> None:
    """Say in one line that a base is not as precise as it was when the adapter was trained."""
    trained, now = options_of(adapter).get("quantization_bit"), arguments.quantization_bit
    if trained != now and (trained or now):
        logger.warning(
            "%s was trained on a base in %s, and the base is now in %s: its answers are others "
            "(--quantization_bit)",
            adapter,
            f"{trained} bits" if trained else "16 or 32 bits",
            f"{now} bits" if now else "16 or 32 bits",
        )


def probe_as_trained(base: str, adapter: str, bits: int, probe_ids: torch.Tensor) -> AsTrained:
    """Load the base as it was in training, with the adapter, and note what it answers."""
    dtype = options_of(adapter).get("dtype", "auto")
    base_model = load_model(ModelArguments(base, quantization_bit=bits, dtype=dtype))
    layers = [name for name, _ in quantised_layers(base_model)]
    base_logits = probe(base_model, probe_ids)
    model = load_adapter(base_model, adapter)
    found = AsTrained(bits, probe(model, probe_ids), base_logits, layers, base_model.dtype)
    del model, base_model
    gc.collect()  # the whole model is loaded next
    return found


def quantised_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers whose weights bitsandbytes holds."""
    for name, module in model.named_modules():
        if type(module).__module__.startswith("bitsandbytes."):
            yield name, module


@torch.no_grad()
def lose_precision(model: nn.Module, trained: AsTrained) -> None:
    """Put into each layer that was quantised what its quantised weights stand for.

    One layer at a time: the same weights give the same 4 or 8 bits again.
    """
    import bitsandbytes.functional as bnb  # slow to import

    for name in trained.layers:
        weight = model.get_parameter(f"{name}.weight")
        if trained.bits == 4:
            codes, state = bnb.quantize_4bit(
                weight.data.to(trained.dtype), quant_type="nf4", compress_statistics=True
            )
            weight.data = bnb.dequantize_4bit(codes, state).to(weight.dtype)
        else:
            codes, scales, _ = bnb.int8_vectorwise_quant(weight.data.to(torch.float16))
            weight.data = (codes.float() * (scales / INT8_LEVELS)[:, None]).to(weight.dtype)


def judge(
    arguments: MergeArguments,
    trained: AsTrained,
    whole_base: torch.Tensor,
    merged: torch.Tensor,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Return what merge_report.json says of the quantised base, after printing it.

    whole_base, merged: logits of the base's own weights, and of the merged model in `dtype`.
    Raises CheckpointError if the merged model is further from the trained one than allowed.
    """
    rows = trained.base_logits.size(-1)  # an adapter's new tokens have no logits there
    base_alone = compare(whole_base[..., :rows], trained.base_logits, 0.0).relative
    allowed = max(TOLERANCES[trained.dtype], TOLERANCES[dtype])
    # 8 bits: LLM.int8 rounds what goes into each layer too, which no merged model does.
    if arguments.quantised_base == ORIGINAL or trained.bits == 8:
        allowed = max(allowed, TIMES_THE_BASE * base_alone)
    if arguments.max_logit_difference is not None:
        allowed = arguments.max_logit_difference
    difference = compare(trained.logits, merged, allowed)
    logger.info(
        "merged into the %s weights of a base that was trained on in %d bits: against the model "
        "as trained %s; quantisation alone moves the base's logits by %.2e",
        arguments.quantised_base, trained.bits, describe(difference), base_alone,
    )  # fmt: skip
    other = ORIGINAL if arguments.quantised_base == DEQUANTISED else DEQUANTISED
    check_difference(
        difference,
        f"{arguments.lora_model[0]}, --quantised_base {arguments.quantised_base}",
        f"Quantisation alone moves the base's logits by {base_alone:.2e}. Take --quantised_base "
        f"{other}, or allow more by --max_logit_difference.",
    )
    return {
        "bits": trained.bits,
        "merged_into": arguments.quantised_base,
        "against_the_model_as_trained": asdict(difference),
        "quantisation_alone_relative": base_alone,
    }
