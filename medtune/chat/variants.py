"""A base and what adapters make of it: several models for the memory of one, by name."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from medtune.chat.kept_text import NAME, KeptText, KeysAndValues, Part, why_not_kept
from medtune.common.errors import ConfigError


class Base:
    """A model that reads many texts at once, as itself or as one of its LoRA adapters."""

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        """Take a loaded model; it is put into evaluation mode.   Raises ConfigError."""
        is_peft = isinstance(model, PeftModel)
        self.model: Any = (model.get_base_model() if is_peft else model).eval()
        self.lora: Any = model if is_peft and not is_prefix(model) else None
        self._active: str | None = model.active_adapter if self.lora else None
        self.num_read = 0  # tokens that went through the model, all in all
        if why := why_not_kept(self.model):
            raise ConfigError(
                f"{self.model.config.name_or_path}: expected a model to talk to, found one whose "
                f"keys and values cannot be kept: {why}. evaluation.py asks it without that."
            )
        self.model.set_attn_implementation(NAME)
        # Taken for a mask that is ready, so that no dense one is built.
        self._no_mask = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=self.model.device)

    def use(self, adapter: str | None) -> None:
        """Switch to a LoRA adapter by its name, or to the base alone (None)."""
        if adapter == self._active:
            return
        if adapter is None:
            self.lora.base_model.disable_adapter_layers()
        else:
            self.lora.base_model.enable_adapter_layers()
            self.lora.base_model.set_adapter(adapter, inference_mode=True)
        self._active = adapter

    @torch.inference_mode()
    def read(self, texts: Sequence[KeptText], new: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read each text's new ids; return the logits after them, (texts, vocabulary) in float32.

        A text that grew only in some layers, because of an error, is of no use any more.
        """
        device = self.model.device
        parts = [Part(text, len(ids)) for text, ids in zip(texts, new, strict=True)]
        ends = torch.tensor([part.num_new for part in parts]).cumsum(0) - 1
        positions = [torch.arange(part.num_new) + part.text.num_keys for part in parts]
        output = self.model(
            input_ids=torch.tensor([[token for ids in new for token in ids]], device=device),
            position_ids=torch.cat(positions)[None].to(device),
            attention_mask=self._no_mask,
            texts=parts,
            use_cache=False,
            logits_to_keep=ends.to(device),
        )
        for text, ids in zip(texts, new, strict=True):
            text.ids.extend(ids)
            self.num_read += len(ids)
        return output.logits[0].float()


class Variant:
    """A base with one adapter, or with none.

    virtual: keys and values of a prefix adapter (P-Tuning v2), see KeptText.
    """

    def __init__(
        self, base: Base, adapter: str | None = None, virtual: Sequence[KeysAndValues] = ()
    ) -> None:
        """adapter: the name of a LoRA adapter that the base has."""
        self.base = base
        self.adapter = adapter
        self.virtual = virtual

    @property
    def num_virtual_tokens(self) -> int:
        """How many places of the context the prefix takes."""
        return self.virtual[0][0].size(2) if self.virtual else 0

    def new_text(self) -> KeptText:
        """Return a text with nothing read but the prefix."""
        return KeptText(self.virtual)

    def read(self, texts: Sequence[KeptText], new: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read as `Base.read` does, with this adapter."""
        self.base.use(self.adapter)
        return self.base.read(texts, new)


def variant_of(model: PreTrainedModel | PeftModel, base: Base | None = None) -> Variant:
    """Return a loaded model, with its active adapter, as a variant.

    base: where the model under a prefix adapter is one already; else a new one is made.
    """
    base = base or Base(model)
    if not isinstance(model, PeftModel):
        return Variant(base)
    if not is_prefix(model):
        return Variant(base, model.active_adapter)
    with torch.inference_mode():
        layers = model.get_prompt(batch_size=1).layers
        return Variant(base, virtual=[(layer.keys, layer.values) for layer in layers])


def is_prefix(model: PeftModel) -> bool:
    """Whether the active adapter stands before the text, and not in the layers."""
    return bool(model.active_peft_config.is_prompt_learning)
