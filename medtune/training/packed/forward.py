"""The packed forward: padded batches in and out of the trainers, no padding computed between.

    padded rows -> one stream of the tokens that a score depends on -> hidden states
                -> log-probabilities of the labelled tokens -> padded rows

The trainers, their losses and their metrics stay TRL's: what is replaced is the model's forward
under `fused_lm_head=True`. Documents of a block, and rows, are segments that do not see each other.
Of a chosen and a rejected answer the common beginning (the prompt, and more where the answers start
alike) stands in the stream once; both are scored from it. Tokens behind the last labelled one of a
row are left out, since no score depends on them.
"""

import functools
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.utils.other import TrainableTokensWrapper
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from medtune.data.rendering import IGNORE_INDEX
from medtune.training.packed.head import Scores, score_tokens
from medtune.training.packed.segments import NAME, KeysAndValues, Segment, Segments

SCALED_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_multiplier",
    "lm_head_multiplier",
)


@dataclass
class PackedOutput(ModelOutput):
    """What TRL's trainers read of their fused head; all but the loss (rows, width - 1)."""

    loss: torch.Tensor | None = None  # nats, a mean over the labelled tokens
    log_probs: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    mean_logits: torch.Tensor | None = None
    is_top1: torch.Tensor | None = None
    label_mask: torch.Tensor | None = None


@dataclass
class PackedBatch:
    """A padded batch (rows, width) as one stream of `tokens`, with the way back."""

    input_ids: torch.Tensor  # (1, tokens)
    position_ids: torch.Tensor  # (1, tokens), from 0 in each document
    segments: Segments
    scored_from: torch.Tensor  # (scored,) stream position whose state predicts the target
    targets: torch.Tensor  # (scored,)
    scored_at: torch.Tensor  # (scored,) place in the flat (rows * (width - 1)) outputs


def pack_batch(
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    share_prefix: bool = False,
) -> PackedBatch:
    """Lay a padded batch out as one stream; all four inputs are (rows, width).

    attention_mask: 0 is padding, on either side.   position_ids: where it falls, a new document
    begins that does not see the one before.   share_prefix: the second half of the rows answers the
    prompts of the first half (TRL's order of chosen and rejected).
    Example: ids [[5, 6, 7], [5, 6, 8]], labels [[-100, -100, 7], [-100, -100, 8]], share_prefix ->
      stream [5, 6], scored_from [1, 1], targets [7, 8], scored_at [1, 3]
    """
    num_rows, width = input_ids.shape
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    positions = torch.arange(width, device=mask.device) if position_ids is None else position_ids
    positions = positions.expand(num_rows, width)
    # The one transfer from the device; what follows is arithmetic on a few thousand integers.
    ids, targets, kept, positions = torch.stack([input_ids, labels, mask, positions]).cpu().unbind()
    stream = Stream(ids, targets)
    documents = [find_documents(kept[row], positions[row]) for row in range(num_rows)]
    if share_prefix:
        for chosen, rejected in zip(
            range(num_rows // 2), range(num_rows // 2, num_rows), strict=True
        ):
            stream.add_pair((chosen, *documents[chosen][0]), (rejected, *documents[rejected][0]))
    else:
        for row in range(num_rows):
            for document in documents[row]:
                stream.add(row, *document)
    return stream.close(input_ids.device)


def find_documents(kept: torch.Tensor, positions: torch.Tensor) -> list[tuple[int, int]]:
    """Return (start, end) of each document of a row; padding belongs to none.

    Example: kept [0, 1, 1, 1], positions [0, 0, 1, 0] -> [(1, 3), (3, 4)].
    """
    columns = kept.nonzero()[:, 0]
    if not len(columns):
        return [(0, 0)]
    start, end = int(columns[0]), int(columns[-1]) + 1
    falls = (positions[start + 1 : end] <= positions[start : end - 1]).nonzero()[:, 0] + start + 1
    borders = [start, *falls.tolist(), end]
    return list(zip(borders, borders[1:], strict=False))


class Stream:
    """Collects documents of padded rows; see `pack_batch`."""

    def __init__(self, ids: torch.Tensor, labels: torch.Tensor) -> None:
        """Take ids and labels (rows, width), on the CPU."""
        self.ids, self.labels = ids, labels
        self.length = 0
        self.segments: list[Segment] = []
        self.taken: list[torch.Tensor] = []  # ids of each segment
        self.positions: list[torch.Tensor] = []
        self.scored: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def labelled(self, row: int, start: int, end: int) -> torch.Tensor:
        """Return the columns in start+1..end whose token is to be predicted."""
        return (self.labels[row, start + 1 : end] != IGNORE_INDEX).nonzero()[:, 0] + start + 1

    def add(self, row: int, start: int, end: int) -> None:
        """Add one document: all it needs, which is nothing if none of its tokens is labelled."""
        columns = self.labelled(row, start, end)
        if len(columns):
            self.score(row, columns, self.length - start)
            self.take(row, start, start, int(columns[-1]))

    def add_pair(self, chosen: tuple[int, int, int], rejected: tuple[int, int, int]) -> None:
        """Add two documents (row, start, end) that begin alike; the beginning is taken once."""
        columns = [self.labelled(*chosen), self.labelled(*rejected)]
        # A document is needed up to the token before its last labelled one.
        needs = [
            int(found[-1]) - start if len(found) else 0
            for found, (_, start, _) in zip(columns, (chosen, rejected), strict=True)
        ]
        (one, one_start, _), (other, other_start, _) = chosen, rejected
        size = min(needs)
        differs = (
            self.ids[one, one_start : one_start + size]
            != self.ids[other, other_start : other_start + size]
        ).nonzero()
        shared = int(differs[0]) if len(differs) else size
        base = self.length
        self.score(one, columns[0], base - one_start)
        self.take(one, one_start, one_start, one_start + needs[0])
        predicting = columns[1] - 1 - other_start  # place in the rejected document
        from_prefix = predicting < shared
        places = torch.where(from_prefix, base + predicting, self.length + predicting - shared)
        self.scored.append((places, self.labels[other, columns[1]], self.output(other, columns[1])))
        self.take(
            other, other_start, other_start + shared, other_start + needs[1], (base, base + shared)
        )

    def output(self, row: int, columns: torch.Tensor) -> torch.Tensor:
        """Return the places in the flat outputs: column j is scored in output j - 1."""
        return row * (self.ids.size(1) - 1) + columns - 1

    def score(self, row: int, columns: torch.Tensor, shift: int) -> None:
        """Have `columns` predicted from the token before each, which stands `shift` further on."""
        places = columns - 1 + shift
        self.scored.append((places, self.labels[row, columns], self.output(row, columns)))

    def take(
        self, row: int, document: int, start: int, end: int, prefix: tuple[int, int] = (0, 0)
    ) -> None:
        """Put columns start..end of a row, whose document begins at `document`, into the stream."""
        if start >= end:
            return
        stop = self.length + end - start
        self.segments.append(Segment(self.length, stop, *prefix))
        self.taken.append(self.ids[row, start:end])
        self.positions.append(torch.arange(start - document, end - document))
        self.length = stop

    def close(self, device: torch.device) -> PackedBatch:
        """Return the stream on `device`; a batch without a labelled token becomes one token."""
        if not self.segments:
            self.take(0, 0, 0, 1)
        empty = torch.empty(0, dtype=torch.long)
        places, targets, outputs = (
            torch.cat(parts) for parts in zip((empty, empty, empty), *self.scored, strict=True)
        )
        return PackedBatch(
            input_ids=torch.cat(self.taken)[None].to(device),
            position_ids=torch.cat(self.positions)[None].to(device),
            segments=Segments(self.segments, device),
            scored_from=places.to(device),
            targets=targets.to(device),
            scored_at=outputs.to(device),
        )


def why_not_packed(model: PreTrainedModel) -> str | None:
    """Return why the packed forward would not be exact for this model; None if it is."""
    config = model.config.get_text_config()
    layer_types = getattr(config, "layer_types", None) or ["full_attention"]
    if not model._can_set_attn_implementation() or getattr(model, "_is_stateful", False):
        return "its attention cannot be replaced"
    if set(layer_types) != {"full_attention"} or uses_sliding_window(config):
        return "not all of its layers attend to everything before"
    if any(getattr(config, name, None) not in (None, 1, 1.0) for name in SCALED_LOGITS):
        return "it scales its logits"
    if getattr(config, "output_router_logits", False):
        return "its experts' balance is part of the loss"
    head = model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):  # its weight is that of the layer with its rows
        head = head.original_module
    if type(head) is not torch.nn.Linear:
        return "its output layer is no plain linear layer"
    return None


def uses_sliding_window(config: Any) -> bool:
    """Whether a configuration without `layer_types` asks for a sliding window."""
    return bool(getattr(config, "sliding_window", None)) and getattr(
        config, "use_sliding_window", True
    )


def install_packed_forward(model: PreTrainedModel, share_prefix: bool) -> None:
    """Give a model that has TRL's fused head the packed forward in its place.

    share_prefix: its batches are pairs. Calls without `fused_lm_head` are as before.   The forward
    takes one thing more, `virtual`: see Segments.
    """
    model.set_attn_implementation(NAME)
    original = model.forward
    # Taken for a mask that is ready, so that no dense one is built; the segments say who sees whom.
    no_mask = torch.empty(1, 1, 0, 0, dtype=torch.bool)

    @functools.wraps(type(model).forward)  # generation checks its inputs against the signature
    def forward(  # noqa: PLR0913 (the model's own)
        self: PreTrainedModel,
        *args: Any,
        fused_lm_head: bool = False,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        virtual: Sequence[KeysAndValues] = (),
        **kwargs: Any,
    ) -> Any:
        if not fused_lm_head or input_ids is None or labels is None:
            given = {
                "input_ids": input_ids, "labels": labels,
                "attention_mask": attention_mask, "position_ids": position_ids,
            }  # fmt: skip
            given = {name: value for name, value in given.items() if value is not None}
            return original(*args, **given, **kwargs, fused_lm_head=fused_lm_head)
        batch = pack_batch(input_ids, labels, attention_mask, position_ids, share_prefix)
        batch.segments.virtual.extend(virtual)
        states = self.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids + batch.segments.num_virtual,
            attention_mask=no_mask.to(input_ids.device),
            segments=batch.segments,
            use_cache=False,
        ).last_hidden_state[0]
        scores = score_tokens(
            states[batch.scored_from], self.get_output_embeddings(), batch.targets
        )
        return unpack_scores(scores, batch, labels, kwargs.get("num_items_in_batch"))

    model.forward = types.MethodType(forward, model)


def unpack_scores(
    scores: Scores, batch: PackedBatch, labels: torch.Tensor, num_items: torch.Tensor | int | None
) -> PackedOutput:
    """Return the scores in the padded layout (rows, width - 1); zero where nothing is labelled."""
    num_rows, width = labels.shape

    def place(values: torch.Tensor) -> torch.Tensor:
        flat = values.new_zeros(num_rows * (width - 1))
        return flat.index_copy(0, batch.scored_at, values).view(num_rows, width - 1)

    log_probs = place(scores.log_probs)
    divisor = max(len(batch.targets), 1) if num_items is None else num_items
    return PackedOutput(
        loss=-log_probs.sum() / divisor,
        log_probs=log_probs,
        entropy=place(scores.entropy),
        mean_logits=place(scores.mean_logits),
        is_top1=place(scores.is_top1),
        label_mask=place(torch.ones_like(batch.targets)).bool(),
    )
