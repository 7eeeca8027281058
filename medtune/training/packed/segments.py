"""Attention over a packed stream: each segment sees itself causally, and a prefix if it has one.

    stream   [ prompt chosen | rejected | next row ... ]
    rejected sees the prompt, which stands once in the stream, and its own earlier tokens

The keys and values of a P-Tuning prefix stand before the stream, once, and every segment sees them.

Registered with transformers under the name `segment`. The plan travels with the call, as the
keyword `segments`; a call without it (generation, padded batches) is transformers' own `sdpa`.
"""

from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "segment"
KeysAndValues = tuple[torch.Tensor, torch.Tensor]
# torch 2.11 takes fewer key heads without being told; from 2.12 on it must be.
GROUPS_ALLOWED: dict[str, Any] = (
    {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
)


@dataclass(frozen=True)
class Segment:
    """Tokens start..end of the stream; they also see all of prefix_start..prefix_end."""

    start: int
    end: int
    prefix_start: int = 0
    prefix_end: int = 0

    @property
    def num_keys(self) -> int:
        """How many tokens of the stream its last token sees, itself among them."""
        return self.prefix_end - self.prefix_start + self.end - self.start


@dataclass(eq=False)
class Segments:
    """The segments of one stream, in order and without gaps, with what attention derives once.

    virtual: keys and values of each layer that all segments see, (1, heads, virtual tokens, head
    size); empty without a P-Tuning prefix. Positions among the keys begin behind them.
    """

    parts: list[Segment]
    device: torch.device
    virtual: list[KeysAndValues] = field(default_factory=list)
    masks: dict[Segment, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def num_virtual(self) -> int:
        """How many keys stand before those of the stream."""
        return self.virtual[0][0].size(2) if self.virtual else 0

    def keys_of(self, part: Segment) -> list[tuple[int, int]]:
        """Return the ranges (start, end) of the keys that a segment sees, its own last."""
        shift = self.num_virtual
        seen = [(part.prefix_start, part.prefix_end), (part.start, part.end)]
        return [(0, shift), *((start + shift, end + shift) for start, end in seen)]

    @cached_property
    def query_lengths(self) -> list[int]:
        """Tokens of each segment."""
        return [part.end - part.start for part in self.parts]

    @cached_property
    def cuts(self) -> list[int]:
        """Lengths of the pieces into which keys are cut: every segment and every prefix whole."""
        ranges = [keys for part in self.parts for keys in self.keys_of(part)]
        ordered = sorted({border for keys in ranges for border in keys})
        return [end - start for start, end in zip(ordered, ordered[1:], strict=False)]

    @cached_property
    def pieces(self) -> list[list[int]]:
        """For each segment the numbers of the pieces that it sees, its own last."""
        starts = [sum(self.cuts[:number]) for number in range(len(self.cuts))]
        return [
            [n for low, high in self.keys_of(part) for n, x in enumerate(starts) if low <= x < high]
            for part in self.parts
        ]

    def mask(self, part: Segment) -> torch.Tensor | None:
        """Return who sees whom (queries, keys) for a segment that sees more; None: plain causal."""
        num_queries, num_keys = part.end - part.start, part.num_keys + self.num_virtual
        if num_queries == num_keys:
            return None
        if part not in self.masks:
            full = torch.ones(num_queries, num_keys, dtype=torch.bool, device=self.device)
            self.masks[part] = full.tril(num_keys - num_queries)
        return self.masks[part]

    @cached_property
    def offsets(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cumulated lengths of queries and of keys, int32, (segments + 1,) each."""
        return self._cumulate(self.query_lengths), self._cumulate(self.key_lengths)

    @cached_property
    def key_lengths(self) -> list[int]:
        """Keys that each segment sees."""
        return [part.num_keys + self.num_virtual for part in self.parts]

    @cached_property
    def key_index(self) -> torch.Tensor | None:
        """Places of all segments' keys, laid end to end; None if none is seen by two."""
        if self.key_lengths == self.query_lengths:
            return None
        ranges = [torch.arange(*keys) for part in self.parts for keys in self.keys_of(part)]
        return torch.cat(ranges).to(self.device)

    def _cumulate(self, lengths: list[int]) -> torch.Tensor:
        total = torch.tensor([0, *lengths]).cumsum(0)
        return total.to(self.device, torch.int32)


def segment_attention(  # noqa: PLR0913 (transformers' interface)
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segments: Segments | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention (1, tokens, heads, head size) for a stream, and no weights.

    query: (1, heads, tokens, head size); key, value: the same with as many or fewer heads.
    """
    if segments is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if segments.virtual:
        layer: Any = module.layer_idx
        key, value = (
            torch.cat([seen.to(own.dtype), own], 2)
            for seen, own in zip(segments.virtual[layer], (key, value), strict=True)
        )
    is_half = query.dtype in (torch.bfloat16, torch.float16)
    if query.is_cuda and is_half and not dropout:
        return attend_on_gpu(query, key, value, segments, scaling), None
    return attend_each(query, key, value, segments, scaling, dropout), None


def attend_each(  # noqa: PLR0913
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """One call per segment: no mask over the stream, and keys keep their few heads."""
    keys, values = key.split(segments.cuts, 2), value.split(segments.cuts, 2)
    outputs = []
    for part, q, seen in zip(
        segments.parts, query.split(segments.query_lengths, 2), segments.pieces, strict=True
    ):
        mask = segments.mask(part)
        output = scaled_dot_product_attention(
            q,
            torch.cat([keys[n] for n in seen], 2) if len(seen) > 1 else keys[seen[0]],
            torch.cat([values[n] for n in seen], 2) if len(seen) > 1 else values[seen[0]],
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.size(1) != key.size(1),
        )
        outputs.append(output.transpose(1, 2))
    return torch.cat(outputs, 1)


def attend_on_gpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
) -> torch.Tensor:
    """One call for the whole stream; a shared prefix's keys are gathered once per reader.

    The kernel lines queries up with the last keys (bottom-right causal), as a prefix needs it.
    """
    key, value = key[0].transpose(0, 1), value[0].transpose(0, 1)
    index = segments.key_index
    if index is not None:
        key, value = key[index], value[index]  # its gradient is summed in a fixed order
    cumulated_queries, cumulated_keys = segments.offsets
    output = varlen_attn(
        query[0].transpose(0, 1),
        key,
        value,
        cumulated_queries,
        cumulated_keys,
        max(segments.query_lengths),
        max(segments.key_lengths),
        scale=scaling,
        window_size=(-1, 0),
        **GROUPS_ALLOWED,
    )
    assert isinstance(output, torch.Tensor)  # a tuple only where more is asked for
    return output[None]


AttentionInterface.register(NAME, segment_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
