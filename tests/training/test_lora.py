"""The fused LoRA step against PEFT's own forward: the same values, gradients and random masks."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from medtune.training.packed.lora import LoraLinear, fuse_lora

TOKENS, INPUTS, OUTPUTS = 37, 24, 40


class TwoLayers(nn.Module):
    """Two linear layers that read one tensor, and a third that reads their product."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, OUTPUTS, bias=bias)
        self.second = nn.Linear(INPUTS, OUTPUTS, bias=bias)
        self.last = nn.Linear(OUTPUTS, INPUTS, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x) * self.second(x).tanh())


def build(bias: bool = True, **options: Any) -> PeftModel:
    """A model with adapters that do something, seeded."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["first", "second", "last"], **options)
    model = get_peft_model(TwoLayers(bias), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return model.train()


def run(model: PeftModel, autocast: torch.dtype | None = None) -> list[torch.Tensor]:
    """Output, gradient of the input, gradients of all adapters."""
    x = torch.randn(3, TOKENS, INPUTS, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    torch.manual_seed(2)  # of the dropout
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        output = model(x)
    output.float().square().sum().backward()
    return [output, x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_values_and_gradients_are_those_of_peft(bias: bool, dropout: float) -> None:
    peft = build(bias, lora_dropout=dropout)
    fused = copy.deepcopy(peft)
    assert fuse_lora(fused) == 3
    for ours, theirs in zip(run(fused), run(peft), strict=True):
        # The same sums in another order: float32 rounding of values up to about 100.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_evaluation_drops_nothing() -> None:
    model = build(lora_dropout=0.3).eval()
    expected = run(model)[0]
    fuse_lora(model)
    torch.testing.assert_close(run(model)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_exact_in_double_precision(dropout: float) -> None:
    torch.manual_seed(0)
    shapes = [(5, 4), (5, 4), (6, 4), (6,), (2, 4), (6, 2)]
    x, dropped, weight, bias, lora_a, lora_b = (
        torch.randn(*shape, dtype=torch.float64) for shape in shapes
    )
    trained = [x, lora_a, lora_b] + ([dropped] if dropout else [])
    for tensor in trained:
        tensor.requires_grad_()
    args = (x, dropped if dropout else None, weight, bias, lora_a, lora_b, 1.5)
    assert torch.autograd.gradcheck(LoraLinear.apply, args)


def test_under_autocast_the_adapter_computes_in_bfloat16_as_peft_does() -> None:
    peft = build(lora_dropout=0.0)
    for module in (peft.base_model.model.first, peft.base_model.model.second):
        module.base_layer.to(torch.bfloat16)
    fused = copy.deepcopy(peft)
    fuse_lora(fused)
    for ours, theirs in zip(run(fused, torch.bfloat16), run(peft, torch.bfloat16), strict=True):
        # bfloat16 has 8 bits; PEFT rounds the adapter's product once more than the sum in place.
        assert (ours - theirs).float().norm() <= 2e-2 * theirs.float().norm()


@pytest.mark.parametrize("case", ["dora", "switched off", "merged", "two at once"])
def test_what_the_step_does_not_compute_is_left_to_peft(case: str) -> None:
    model = build(use_dora=case == "dora")
    if case == "two at once":
        model.add_adapter("other", LoraConfig(r=2, target_modules=["first"]))
        model.base_model.set_adapter(["default", "other"])
    elif case == "merged":
        model.merge_adapter()
    elif case == "switched off":
        model.base_model.disable_adapter_layers()
    expected = model(torch.ones(1, INPUTS))
    fuse_lora(model)
    assert torch.equal(model(torch.ones(1, INPUTS)), expected)
