"""How far apart two models are: the logits of one text, before a merge, after it, and reloaded."""

from dataclasses import dataclass

import torch

from medtune.common.errors import CheckpointError

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


@torch.no_grad()
def probe(model: torch.nn.Module, probe_ids: torch.Tensor) -> torch.Tensor:
    """Return the probe's logits in float32 on the CPU, (1, tokens, vocabulary)."""
    device = next(model.parameters()).device
    return model.eval()(input_ids=probe_ids.to(device)).logits.float().cpu()


def compare(before: torch.Tensor, after: torch.Tensor, tolerance: float) -> ProbeDifference:
    """Return the difference between two logit tensors."""
    difference = (before - after).abs()
    largest = before.abs().max().item()
    return ProbeDifference(
        max_absolute=difference.max().item(),
        mean_absolute=difference.mean().item(),
        relative=difference.max().item() / largest,
        tolerance=tolerance,
    )


def check_difference(difference: ProbeDifference, what: str, remedy: str) -> None:
    """Raise CheckpointError if the two are different models (a NaN counts as different)."""
    if not difference.relative <= difference.tolerance:
        raise CheckpointError(
            f"{what}: expected the same logits before and after, found {describe(difference)}; "
            f"nothing was written. {remedy}"
        )


def describe(difference: ProbeDifference) -> str:
    """Return the difference as a phrase for logs and errors."""
    return (
        f"logits differ by at most {difference.max_absolute:.2e}, on average "
        f"{difference.mean_absolute:.2e}, relative {difference.relative:.2e} (tolerance "
        f"{difference.tolerance:.1e})"
    )
