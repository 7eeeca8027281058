"""LoRA layers with fewer passes over memory: x W^T + s (d A^T) B^T as one autograd step.

d is x, or what dropout left of it. PEFT writes the adapter's output, its scaled copy and the sum as
three tensors of the layer's width and keeps two of them; here the product is added in place and
only d and d A^T (rank wide) are kept. The narrow products are laid out so that the long side is
contiguous, which a CPU's BLAS needs.
"""

import types
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLayer
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled


class LoraLinear(torch.autograd.Function):
    """x W^T + bias + scaling (d A^T) B^T for a frozen W; all of one dtype. d: None stands for x."""

    @staticmethod
    def forward(  # noqa: PLR0913
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        lora_a: torch.Tensor,
        lora_b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Return (tokens, out) from x, d (tokens, in), W (out, in), A (rank, in), B (out, rank)."""
        read = x if dropped is None else dropped
        narrow = read @ lora_a.T
        output = x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
        output.addmm_(narrow, lora_b.T, alpha=scaling)
        ctx.save_for_backward(read, narrow, weight, lora_a, lora_b)
        ctx.scaling = scaling
        ctx.is_dropped = dropped is not None
        return output

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, d, A and B."""
        read, narrow, weight, lora_a, lora_b = ctx.saved_tensors
        grad_narrow = (grad @ lora_b.T.contiguous().T).mul_(ctx.scaling)
        grad_b = (narrow.T @ grad).mul_(ctx.scaling).T
        grad_a = grad_narrow.T @ read
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        grad_dropped = None
        if ctx.is_dropped and ctx.needs_input_grad[1]:
            grad_dropped = grad_narrow @ lora_a
        elif grad_x is not None:
            grad_x.addmm_(grad_narrow, lora_a)
        return grad_x, grad_dropped, None, None, grad_a, grad_b, None


def fuse_lora(model: nn.Module) -> int:
    """Give every plain LoRA layer of a model the fused step; return how many there are.

    Layers that PEFT computes otherwise (DoRA, quantised or sharded weights, several
    adapters at once) keep its forward, at every call anew.
    """
    if is_deepspeed_zero3_enabled():  # a sharded weight is only there while its own layer runs
        return 0
    layers = [
        m for m in model.modules() if type(m) is LoraLayer and type(m.base_layer) is nn.Linear
    ]
    for layer in layers:
        layer.forward = types.MethodType(fused_forward, layer)
    return len(layers)


def fused_forward(layer: LoraLayer, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """The forward of a LoRA layer: fused where that is the same, else PEFT's."""
    base = layer.base_layer
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    name = only_plain_adapter(layer)
    if args or kwargs or name is None or base.weight.dtype != dtype or base.weight.requires_grad:
        return LoraLayer.forward(layer, x, *args, **kwargs)
    lora_a, lora_b = layer.lora_A[name].weight, layer.lora_B[name].weight
    if (
        lora_a.dtype != x.dtype
        and dtype == x.dtype
        and not torch.is_autocast_enabled(x.device.type)
    ):
        return LoraLayer.forward(layer, x)  # PEFT computes the adapter in its own, wider dtype
    flat = x.reshape(-1, x.size(-1)).to(dtype)
    dropout = layer.lora_dropout[name]
    is_dropped = dropout.training and not isinstance(dropout, nn.Identity)
    adapter = (lora_a.to(dtype), lora_b.to(dtype), layer.scaling[name])
    output = LoraLinear.apply(
        flat, dropout(flat) if is_dropped else None, base.weight, base.bias, *adapter
    )
    return output.view(*x.shape[:-1], -1)


def only_plain_adapter(layer: LoraLayer) -> str | None:
    """Return the name of the one active adapter, if it is one that the fused step computes."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    (name,) = layer.active_adapters
    if (
        name not in layer.lora_A
        or name in layer.lora_variant
        or layer.lora_B[name].bias is not None
    ):
        return None
    return name
