"""Texts that a model has read, and attention over many of them at once, each longer by its own.

    stream    [ new of A | new of B | new of C ]      one forward, nothing padded
    B's new   see B's kept keys and values, and each other causally

What the layers compute for a stream costs one call, whoever its tokens belong to; attention alone
goes text by text. Registered with transformers under the name `kept`; a call without the keyword
`texts` (generation) is transformers' own `sdpa`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "kept"
GROWTH_TOKENS = 64
KeysAndValues = tuple[torch.Tensor, torch.Tensor]


class KeptText:
    """The ids of a text that was read, with its keys and values in each layer.

    virtual: those of a P-Tuning prefix, (1, heads, virtual tokens, head size) in each layer: they
    stand before the first token and are never cut off.
    """

    def __init__(self, virtual: Sequence[KeysAndValues] = ()) -> None:
        """Begin with no token."""
        self.ids: list[int] = []
        self.num_virtual = virtual[0][0].size(2) if virtual else 0
        # Copies, with room to grow; what is shared stays as it is.
        self.layers = [grown(pair, self.num_virtual, self.num_virtual) for pair in virtual]

    @property
    def num_keys(self) -> int:
        """How many keys a layer holds."""
        return self.num_virtual + len(self.ids)

    @property
    def num_bytes(self) -> int:
        """What the keys and values take, with their room to grow."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def num_shared(self, ids: Sequence[int]) -> int:
        """How many tokens at the beginning are those of `ids`; its last one never counts.

        What follows the last one is what is asked for, so it must be read again.
        """
        longest = min(len(self.ids), len(ids) - 1)
        return next((n for n in range(longest) if self.ids[n] != ids[n]), longest)

    def beginning(self, num_tokens: int) -> "KeptText":
        """Return a copy of the first tokens, with what stands before them."""
        copy = KeptText()
        copy.ids, copy.num_virtual = self.ids[:num_tokens], self.num_virtual
        copy.layers = [grown(pair, copy.num_keys, copy.num_keys) for pair in self.layers]
        return copy

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> KeysAndValues:
        """Keep a layer's keys and values (1, heads, new, head size); return them with all before.

        `ids` are for the caller to extend, when all layers have the new tokens.
        """
        start, end = self.num_keys, self.num_keys + keys.size(2)
        if layer == len(self.layers):
            self.layers.append(grown((keys[:, :, :0], values[:, :, :0]), 0, end))
        elif end > self.layers[layer][0].size(2):
            self.layers[layer] = grown(self.layers[layer], start, 2 * end)
        kept_keys, kept_values = self.layers[layer]
        kept_keys[:, :, start:end] = keys
        kept_values[:, :, start:end] = values
        return kept_keys[:, :, :end], kept_values[:, :, :end]


def grown(pair: KeysAndValues, length: int, capacity: int) -> KeysAndValues:
    """Return copies of the first `length` keys and values in longer tensors."""
    capacity += -capacity % GROWTH_TOKENS
    copies = []
    for tensor in pair:
        copy = tensor.new_empty(*tensor.shape[:2], capacity, tensor.size(3))
        copy[:, :, :length] = tensor[:, :, :length]
        copies.append(copy)
    return copies[0], copies[1]


@dataclass
class Part:
    """A text and how many of the stream's tokens are its next ones.

    masks: who sees whom, by the window of the layer; the same in all layers that have it.
    """

    text: KeptText
    num_new: int
    masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)

    def mask(self, keys: torch.Tensor, window: int | None) -> torch.Tensor | None:
        """Return what `visible_keys` does, computed once."""
        if window not in self.masks:
            self.masks[window] = visible_keys(self.num_new, keys, window)
        return self.masks[window]


def kept_attention(  # noqa: PLR0913 (transformers' interface)
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    texts: Sequence[Part] | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention (1, tokens, heads, head size) for a stream, and no weights.

    query: (1, heads, tokens, head size); key, value: the same with as many or fewer heads.
    sliding_window: how many keys a token sees in this layer, its own among them; None: all.
    """
    if texts is None:
        kwargs |= {"scaling": scaling, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    layer: Any = module.layer_idx
    lengths = [part.num_new for part in texts]
    new = zip(texts, *(tensor.split(lengths, 2) for tensor in (query, key, value)), strict=True)
    outputs = []
    for part, queries, new_keys, new_values in new:
        keys, values = part.text.extend(layer, new_keys, new_values)
        mask = part.mask(keys, sliding_window)
        output = scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None and part.num_new > 1,
            scale=scaling,
            enable_gqa=query.size(1) != key.size(1),
        )
        outputs.append(output.transpose(1, 2))
    return torch.cat(outputs, 1), None


def visible_keys(num_new: int, keys: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """Return who sees whom (new, keys); None: all is new and causal, or one token sees all."""
    num_keys = keys.size(2)
    is_cut = window is not None and num_keys > window
    if not is_cut and num_new in (1, num_keys):
        return None
    full = torch.ones(num_new, num_keys, dtype=torch.bool, device=keys.device)
    mask = full.tril(num_keys - num_new)
    return mask.triu(num_keys - num_new - window + 1) if window is not None else mask


def why_not_kept(model: Any) -> str | None:
    """Return why a model's attention cannot be `kept_attention`; None if it can."""
    config = model.config
    if not model._can_set_attn_implementation() or getattr(model, "_is_stateful", False):
        return "its attention cannot be replaced"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps the scores of its attention"
    kinds = set(getattr(config, "layer_types", None) or []) - {
        "full_attention",
        "sliding_attention",
    }
    return f"it has layers of {', '.join(sorted(kinds))}" if kinds else None


AttentionInterface.register(NAME, kept_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
