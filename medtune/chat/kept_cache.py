"""A causal model that keeps what it has read: the second turn does not compute the first again."""

from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import DynamicCache, PreTrainedModel

from medtune.common.errors import MemoryExhausted


class CachedModel:
    """A model with the keys and values of the tokens that it has read.

    A prefix adapter (P-Tuning v2) is keys and values from the start: they stand before the first
    token, take `num_virtual_tokens` places of the context and are never cut off.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        """Take a loaded model; it is put into evaluation mode."""
        self.model = model.eval()
        is_peft = isinstance(model, PeftModel)
        # LoRA lives in the layers of the base, a prefix in its cache: the base is called for both.
        self.base = model.get_base_model() if is_peft else model
        has_prefix = is_peft and model.active_peft_config.is_prompt_learning
        self.num_virtual_tokens = model.active_peft_config.num_virtual_tokens if has_prefix else 0
        self.num_read = 0  # tokens that went through the model, all in all
        self._ids: list[int] = []  # those that the cache holds
        self._cache: DynamicCache | None = None

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.base.device

    def forget(self) -> None:
        """Free the keys and values."""
        self._ids, self._cache = [], None

    def rewind(self, ids: Sequence[int]) -> list[int]:
        """Keep of what was read the beginning that `ids` share; return those still to be read.

        At least the last one is: what follows it is what the caller asks for.
        """
        longest = min(len(self._ids), len(ids) - 1)
        common = next((n for n in range(longest) if self._ids[n] != ids[n]), longest)
        if self._cache is not None and common < len(self._ids):
            self._cache.crop(common - len(self._ids))
        self._ids = self._ids[:common]
        return list(ids[common:])

    @torch.inference_mode()
    def read(self, ids: Sequence[int]) -> torch.Tensor:
        """Read more tokens and return the logits of the next one, (1, vocabulary) in float32.

        Raises MemoryExhausted; what was read before is forgotten then.
        """
        cache, known = self._cache, self._ids
        if cache is None:
            cache = self._new_cache()
        self.forget()  # until all layers have the new tokens
        try:
            output = self.base(
                input_ids=torch.tensor([list(ids)], device=self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        except torch.OutOfMemoryError as error:
            raise MemoryExhausted(
                f"the GPU has no memory left after {len(known):,} tokens of this conversation: "
                "start anew, or give a smaller --max_length."
            ) from error
        self._ids, self._cache = [*known, *ids], cache
        self.num_read += len(ids)
        return output.logits[:, -1].float()

    def _new_cache(self) -> DynamicCache:
        return self.model.get_prompt(batch_size=1) if self.num_virtual_tokens else DynamicCache()
