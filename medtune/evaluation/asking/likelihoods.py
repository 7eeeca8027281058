"""Log-likelihoods of answers after prompts: nothing padded, each prompt computed once.

Prompts and their answers lie one after the other in one row; an answer sees its own prompt and
itself, at the positions that it would have alone:

    prompt 1 | answer a | answer b | prompt 2 | answer c | …

The last token of an answer is predicted and never read, so an answer of one token (the letter of an
option) takes no place in the row at all. Logits are computed where they are needed only.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch
from transformers import PreTrainedModel

from medtune.common.log import logger

ItemT = TypeVar("ItemT")
LogLikelihood = tuple[float, bool]  # nats; whether greedy decoding gives this answer


class Scored(NamedTuple):
    """A prompt of at least one token and the answers to score after it, as token ids."""

    prompt_ids: list[int]
    answers: list[list[int]]

    @property
    def num_tokens(self) -> int:
        """How many tokens of a row it takes."""
        return len(self.prompt_ids) + sum(len(ids) - 1 for ids in self.answers)


def pack(
    items: Iterable[ItemT], tokens_per_batch: int, size: Callable[[ItemT], int]
) -> Iterator[list[ItemT]]:
    """Yield consecutive items that fit together; an item that is longer goes alone.

    size: how many tokens of a row an item takes.
    """
    batch: list[ItemT] = []
    used = 0
    for item in items:
        if batch and used + size(item) > tokens_per_batch:
            yield batch
            batch, used = [], 0
        batch.append(item)
        used += size(item)
    if batch:
        yield batch


@torch.no_grad()
def log_likelihoods(model: PreTrainedModel, batch: list[Scored]) -> list[list[LogLikelihood]]:
    """Return, for each item, the log-likelihood of each of its answers."""
    ids, positions, owners, branches = lay_out(batch)
    device = model.device
    predicting, targets = predictions(batch)
    kept, place = torch.unique(torch.tensor(predicting), return_inverse=True)
    inputs = {"input_ids": torch.tensor([ids], device=device)}
    if len(batch) > 1 or len(batch[0].answers) > 1:
        inputs["position_ids"] = torch.tensor([positions], device=device)
        visible = attention_mask(owners, branches).to(device)
        # As numbers to add: attention that is written out adds a mask of bools as 0 and 1.
        hidden = torch.finfo(model.dtype).min
        inputs["attention_mask"] = torch.zeros_like(visible, dtype=model.dtype).masked_fill_(
            ~visible, hidden
        )
    logits = model(**inputs, use_cache=False, logits_to_keep=kept.to(device)).logits[0]
    log_probs = logits.float().log_softmax(-1)
    place, wanted = place.to(device), torch.tensor(targets, device=device)
    found = log_probs[place, wanted].double().tolist()
    greedy = (log_probs.argmax(-1)[place] == wanted).tolist()
    results, start = [], 0
    for item in batch:
        ends = [start := start + len(ids) for ids in item.answers]
        lengths = map(len, item.answers)
        spans = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        results.append([(sum(found[span]), all(greedy[span])) for span in spans])
    return results


def one_by_one(model: PreTrainedModel, batch: list[Scored]) -> list[list[LogLikelihood]]:
    """Return the same, each answer in a forward pass of its own."""
    return [
        [log_likelihoods(model, [Scored(item.prompt_ids, [ids])])[0][0] for ids in item.answers]
        for item in batch
    ]


def packs_exactly(model: PreTrainedModel) -> bool:
    """True if answers that lie in one row have the likelihoods that they have alone.

    Not every model takes a mask and positions of its own (ALiBi, windows of attention): tried on
    a few tokens, and said if it is so.
    """
    trial = [Scored([1, 2, 3], [[4, 5, 6], [6, 5]]), Scored([7, 8], [[5, 6], [2]])]
    try:
        packed = log_likelihoods(model, trial)
    except (RuntimeError, ValueError, IndexError, TypeError):
        packed = []
    alone = one_by_one(model, trial)
    values = [[value for value, _ in item] for item in packed]
    expected = [[value for value, _ in item] for item in alone]
    # bfloat16 keeps 8 bits: sums of three logits of another product differ by some 1e-2.
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.25
    is_exact = len(values) == len(expected) and all(
        abs(a - b) <= tolerance
        for found, wanted in zip(values, expected, strict=True)
        for a, b in zip(found, wanted, strict=True)
    )
    if not is_exact:
        logger.warning("this model does not pack exactly: every answer is computed by itself")
    return is_exact


def lay_out(batch: list[Scored]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return ids, positions, item numbers and branches (0 the prompt, then the answers) of a row.

    Example: prompt [7, 8] with answers [1, 2] and [3]: ids [7, 8, 1], positions [0, 1, 2],
    branches [0, 0, 1].
    """
    ids: list[int] = []
    positions: list[int] = []
    owners: list[int] = []
    branches: list[int] = []
    for owner, (prompt, answers) in enumerate(batch):
        pieces = [(prompt, 0), *((answer[:-1], len(prompt)) for answer in answers)]
        for branch, (piece, first) in enumerate(pieces):
            ids += piece
            positions += range(first, first + len(piece))
            owners += [owner] * len(piece)
            branches += [branch] * len(piece)
    return ids, positions, owners, branches


def predictions(batch: list[Scored]) -> tuple[list[int], list[int]]:
    """Return, for each answer token of the batch, where in the row it is predicted, and its id."""
    predicting: list[int] = []
    targets: list[int] = []
    start = 0
    for prompt, answers in batch:
        last = start + len(prompt) - 1
        start += len(prompt)
        for answer in answers:
            predicting += [last, *range(start, start + len(answer) - 1)]
            targets += answer
            start += len(answer) - 1
    return predicting, targets


def attention_mask(owners: list[int], branches: list[int]) -> torch.Tensor:
    """Return who sees whom, (1, 1, tokens, tokens) bool: causal, own prompt and own answer."""
    owner, branch = torch.tensor(owners), torch.tensor(branches)
    same = owner[:, None] == owner
    visible = (branch == 0) | (branch[:, None] == branch)
    return (same & visible).tril()[None, None]
