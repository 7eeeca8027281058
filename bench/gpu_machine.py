"""What bench/gpu.py must know of the machine: that attention is right on it, and its rates."""

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from transformers import GlmConfig

from bench.models import linear_shapes

# Largest error of attention and its gradients, relative to the largest value. bfloat16 has 8 bits.
TOLERANCE = {torch.bfloat16: 2e-2, torch.float32: 1e-5}
REPEATS, WARM_UPS = 10, 3
Result = TypeVar("Result")
COPIED_BYTES = {"cuda": 4 * 2**30, "cpu": 64 * 2**20}


def check_attention(config: GlmConfig, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the largest errors of attention over a stream, and leave with one line if it is wrong.

    The stream has documents, a segment that sees a prefix, and one of a single token. Values and
    gradients are compared with the softmax written out in float32.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError:
        sys.exit(f"torch {torch.__version__}: expected torch.nn.attention.varlen (2.11 or later)")
    from medtune.training.packed.segments import Segment, Segments, segment_attention

    parts = [
        Segment(0, 300),
        Segment(300, 340, 0, 200),
        Segment(340, 500),
        Segment(500, 501, 340, 500),
    ]
    torch.manual_seed(0)
    heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    given = [
        torch.randn(1, num, parts[-1].end, config.head_dim, device=device).to(dtype)
        for num in heads
    ]
    scaling = config.head_dim**-0.5
    found = [x.clone().requires_grad_() for x in given]
    upstream = torch.randn(1, parts[-1].end, heads[0], config.head_dim, device=device).to(dtype)
    try:
        module = torch.nn.Module()
        output, _ = segment_attention(
            module,
            found[0],
            found[1],
            found[2],
            None,
            segments=Segments(parts, torch.device(device)),
            scaling=scaling,
        )
        output.backward(upstream)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        sys.exit(
            f"torch {torch.__version__}: varlen_attn with grouped-query heads failed: {reason}"
        )
    exact = [x.float().requires_grad_() for x in given]
    expected = attend_densely(exact[0], exact[1], exact[2], visible(parts, device), scaling)
    expected.backward(upstream.float())
    compared = zip(
        [output, *(x.grad for x in found)], [expected, *(x.grad for x in exact)], strict=True
    )
    names = ("output", "query gradient", "key gradient", "value gradient")
    errors = {name: relative_error(*pair) for name, pair in zip(names, compared, strict=True)}
    if not max(errors.values()) <= TOLERANCE[dtype]:
        sys.exit(f"torch {torch.__version__}: attention over a stream is wrong here: {errors}")
    kernel = "checked" if device == "cuda" else "skipped: it runs on a GPU only"
    return {"varlen_attn": kernel, "relative_errors": errors, "tolerance": TOLERANCE[dtype]}


def relative_error(found: torch.Tensor | None, expected: torch.Tensor | None) -> float:
    """Return the largest difference over the largest expected value."""
    assert found is not None and expected is not None  # gradients are, after a backward pass
    difference = (found.detach().float() - expected.detach()).abs().max()
    return float(difference / expected.detach().abs().max())


def visible(parts: list[Any], device: str) -> torch.Tensor:
    """Return who may see whom, (tokens, tokens), from the meaning of a segment."""
    mask = torch.zeros(parts[-1].end, parts[-1].end, dtype=torch.bool, device=device)
    for part in parts:
        mask[part.start : part.end, part.prefix_start : part.prefix_end] = True
        own = mask[part.start : part.end, part.start : part.end]
        own.copy_(torch.ones_like(own).tril())
    return mask


def attend_densely(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Return attention (1, tokens, heads, head size) by the definition."""
    group = query.size(1) // key.size(1)
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = (query @ key.transpose(2, 3) * scaling).masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2)


def measure_rates(
    config: GlmConfig, device: str, dtype: torch.dtype, num_tokens: int
) -> dict[str, Any]:
    """Return the rate of the model's matrix products, by shape and together, and of a copy.

    Each weight is used as in LoRA training: x W^T, and the gradient times W. `gemm_tflops` weighs
    the shapes as the model does. `copy_gb_per_second` counts bytes read and written (1e9).
    """
    head = (config.hidden_size, config.vocab_size)
    shapes = [(shape, config.num_hidden_layers) for shape in linear_shapes(config)] + [(head, 1)]
    rates, total_flops, total_seconds = {}, 0.0, 0.0
    for (inputs, outputs), count in shapes:
        x, weight, gradient = (
            torch.randn(shape, device=device, dtype=dtype)  # zeros would run faster
            for shape in ((num_tokens, inputs), (outputs, inputs), (num_tokens, outputs))
        )

        def products(x: Any = x, weight: Any = weight, gradient: Any = gradient) -> None:
            torch.mm(x, weight.T)
            torch.mm(gradient, weight)

        flops, seconds = 4 * num_tokens * inputs * outputs, mean_seconds(products, device)
        rates[f"{inputs}x{outputs}"] = flops / seconds / 1e12
        total_flops, total_seconds = total_flops + count * flops, total_seconds + count * seconds
    source = torch.ones(COPIED_BYTES[device] // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_seconds = mean_seconds(lambda: target.copy_(source), device)
    return {
        "gemm_tokens": num_tokens,
        "gemm_tflops": total_flops / total_seconds / 1e12,
        "gemm_tflops_by_shape": rates,
        "copy_gb_per_second": COPIED_BYTES[device] / copy_seconds / 1e9,
    }


def mean_seconds(function: Callable[[], Any], device: str) -> float:
    """Return the mean time of a few calls after a few that do not count."""
    for _ in range(WARM_UPS):
        function()
    _, seconds = timed(lambda: [function() for _ in range(REPEATS)], device)
    return seconds / REPEATS


def timed(function: Callable[[], Result], device: str) -> tuple[Result, float]:
    """Return a call's result and its seconds: by CUDA events, on a CPU by the clock."""
    if device == "cpu":
        start = time.perf_counter()
        result = function()
        return result, time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    result = function()
    last.record()
    last.synchronize()
    return result, first.elapsed_time(last) / 1000
