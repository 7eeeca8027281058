"""Log-probabilities of given tokens, without keeping the logits of a whole batch.

Only rows that are asked for are projected. With a frozen head the gradient is formed in the
forward pass: d log p(y) / d h = W_y - sum_v p_v W_v depends on that token alone, so whatever loss
follows (cross-entropy, DPO, IPO, ...) only scales it. That takes two matrix products per token
instead of three, and the entropy falls out of them: log Z - h . sum_v p_v W_v.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

# Logits held at one time. On a CPU a tile stays in the cache between the passes over it.
TILE_BYTES = {"cpu": 2 * 2**20, "cuda": 512 * 2**20}
TRAINED_HEAD_OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")
VOCABULARY_PER_TILE = 32768  # of the kernel for a trained head


class Scores(NamedTuple):
    """What one projection tells of each target token; all (targets,)."""

    log_probs: torch.Tensor  # float32, with a gradient
    entropy: torch.Tensor  # of the whole distribution, in nats; zeros where no gradient is formed
    mean_logits: torch.Tensor  # over the vocabulary
    is_top1: torch.Tensor  # bool: the target is the most likely token


def score_tokens(hidden: torch.Tensor, head: nn.Linear, targets: torch.Tensor) -> Scores:
    """Return the scores of `targets` (n,) under the states `hidden` (n, hidden size)."""
    weight: torch.Tensor = head.weight
    bias: torch.Tensor | None = head.bias
    if isinstance(weight, DTensor):  # FSDP2 shards it
        weight = weight.full_tensor()
        bias = bias.full_tensor() if isinstance(bias, DTensor) else bias
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    with gathered(weight, bias):
        if weight.requires_grad and torch.is_grad_enabled():
            from trl.kernels import ChunkedLogProbFunction  # the only need of TRL here

            log_probs, entropy, _, mean_logits, is_top1 = ChunkedLogProbFunction.apply(
                hidden, weight, bias, targets, 1.0, VOCABULARY_PER_TILE, None, 1.0,
                TRAINED_HEAD_OUTPUTS,
            )  # fmt: skip
            return Scores(log_probs, entropy, mean_logits, is_top1)
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        log_probs, entropy, is_top1 = FrozenHead.apply(hidden, weight, bias, targets)
        mean_logits = hidden.detach() @ weight.mean(0).to(hidden.dtype)
        if bias is not None:
            mean_logits = mean_logits + bias.mean()
    return Scores(log_probs, entropy, mean_logits.float(), is_top1)


def gathered(*parameters: torch.Tensor | None) -> Any:
    """Return a context in which a head that DeepSpeed shards (ZeRO-3) is whole."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    from trl.trainer.utils import maybe_gather_lm_head_ctx

    return maybe_gather_lm_head_ctx(*parameters)


class FrozenHead(torch.autograd.Function):
    """log softmax(hidden @ weight.T + bias)[target] with its gradient ready."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log_probs (n,) float32, entropy (n,) float32, is_top1 (n,) bool."""
        num_tokens = len(hidden)
        weight = weight.to(hidden.dtype)
        with_gradient = ctx.needs_input_grad[0] and num_tokens > 0
        log_probs = hidden.new_zeros(num_tokens, dtype=torch.float32)
        entropy = torch.zeros_like(log_probs)
        is_top1 = torch.zeros_like(log_probs, dtype=torch.bool)
        gradient = torch.empty_like(hidden) if with_gradient else None
        parts = tiles(num_tokens, weight.size(0), hidden.device.type)
        buffer = hidden.new_empty(len(hidden[parts[0]]) if parts else 0, weight.size(0))
        for rows in parts:
            states, target = hidden[rows], targets[rows, None]
            logits = torch.mm(states, weight.T, out=buffer[: len(states)])
            if bias is not None:
                logits += bias
            logits = logits.float()
            top = logits.amax(1, keepdim=True)
            target_logit = logits.gather(1, target)
            weights = logits.sub_(top).exp_()  # softmax times `total`
            total = weights.sum(1, keepdim=True)
            log_z = total.log().add_(top)
            log_probs[rows] = (target_logit - log_z)[:, 0]
            is_top1[rows] = (target_logit >= top)[:, 0]
            if gradient is not None:
                expected = (weights.to(weight.dtype) @ weight).float().div_(total)
                mean = (expected * states).sum(1)
                if bias is not None:
                    mean += (weights @ bias.float()) / total[:, 0]
                entropy[rows] = log_z[:, 0] - mean
                gradient[rows] = weight[target[:, 0]] - expected
        ctx.mark_non_differentiable(entropy, is_top1)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return log_probs, entropy, is_top1

    @staticmethod
    def backward(
        ctx: Any, grad_log_probs: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        """Scale each token's ready gradient."""
        (gradient,) = ctx.saved_tensors
        return grad_log_probs[:, None].to(gradient.dtype) * gradient, None, None, None


def tiles(num_tokens: int, vocabulary: int, device: str) -> list[slice]:
    """Cut the tokens so that a tile's float32 logits take about TILE_BYTES, 32 rows at least."""
    size = max(32, TILE_BYTES.get(device, TILE_BYTES["cuda"]) // (4 * vocabulary))
    return [slice(start, start + size) for start in range(0, num_tokens, size)]
