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
TRAINED_TILE_TOKENS = 256  # on a CPU: fewer add to the head's gradient too often
TRAINED_HEAD_OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")
VOCABULARY_PER_TILE = 32768  # of the kernel for a trained head on a GPU


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
        is_trained = weight.requires_grad and torch.is_grad_enabled()
        if is_trained and hidden.device.type == "cpu" and not is_deepspeed_zero3_enabled():
            log_probs, entropy, is_top1 = TrainedHead.apply(hidden, weight, bias, targets)
        elif is_trained:
            from trl.kernels import ChunkedLogProbFunction  # the only need of TRL here

            log_probs, entropy, _, mean_logits, is_top1 = ChunkedLogProbFunction.apply(
                hidden, weight, bias, targets, 1.0, VOCABULARY_PER_TILE, None, 1.0,
                TRAINED_HEAD_OUTPUTS,
            )  # fmt: skip
            return Scores(log_probs, entropy, mean_logits, is_top1)
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        if not is_trained:
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


class TrainedHead(torch.autograd.Function):
    """log softmax(hidden @ weight.T + bias)[target], of a head that is trained too.

    The logits of a tile of tokens are formed twice, for the value and for the gradient, and kept
    neither time. TRL's kernel, which is made for GPUs, cuts the vocabulary instead: on a CPU its
    tiles outgrow the cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log_probs (n,) float32, entropy (n,) float32, is_top1 (n,) bool."""
        log_z = hidden.new_zeros(len(hidden), dtype=torch.float32)
        log_probs, entropy = torch.zeros_like(log_z), torch.zeros_like(log_z)
        is_top1 = torch.zeros_like(log_z, dtype=torch.bool)
        for rows in slices(len(hidden)):
            logits = project(hidden[rows], weight, bias)
            top = logits.amax(1)
            target_logit = logits.gather(1, targets[rows, None])[:, 0]
            weights = (logits - top[:, None]).exp_()
            total = weights.sum(1)
            log_z[rows] = total.log() + top
            log_probs[rows] = target_logit - log_z[rows]
            is_top1[rows] = target_logit >= top
            entropy[rows] = log_z[rows] - weights.mul_(logits).sum(1) / total
        ctx.mark_non_differentiable(entropy, is_top1)
        ctx.save_for_backward(hidden, weight, bias, targets, log_z)
        return log_probs, entropy, is_top1

    @staticmethod
    def backward(
        ctx: Any, grad_log_probs: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, None]:
        """Add up, over tiles, d log p(y) / d logit_v = [v = y] - p_v times what is above."""
        hidden, weight, bias, targets, log_z = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        for rows in slices(len(hidden)):
            above = grad_log_probs[rows, None]
            logits = project(hidden[rows], weight, bias)
            grad_logits = logits.sub_(log_z[rows, None]).exp_().mul_(-above)
            grad_logits.scatter_add_(1, targets[rows, None], above)
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            narrow = grad_logits.to(hidden.dtype)
            grad_hidden[rows] = narrow @ weight.to(hidden.dtype)
            grad_weight += (narrow.T @ hidden[rows]).float()
        return grad_hidden, grad_weight.to(weight.dtype), grad_bias, None


def slices(num_tokens: int) -> list[slice]:
    """Cut the tokens into tiles of TRAINED_TILE_TOKENS."""
    step = TRAINED_TILE_TOKENS
    return [slice(start, start + step) for start in range(0, num_tokens, step)]


def project(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return the logits (n, vocabulary) in float32."""
    logits = hidden @ weight.to(hidden.dtype).T
    return (logits if bias is None else logits + bias).float()


def tiles(num_tokens: int, vocabulary: int, device: str) -> list[slice]:
    """Cut the tokens so that a tile's float32 logits take about TILE_BYTES, 32 rows at least."""
    size = max(32, TILE_BYTES.get(device, TILE_BYTES["cuda"]) // (4 * vocabulary))
    return [slice(start, start + size) for start in range(0, num_tokens, size)]
