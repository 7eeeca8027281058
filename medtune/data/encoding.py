"""Plain text to token ids, without letting any of it become a control token."""

import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

ContextT = TypeVar("ContextT")
MARKUP = re.compile(r"[<\[].*[>\]]", re.DOTALL)


class PlainEncoder:
    """Encodes what a person wrote: "<|user|>" in it stays text.

    Control tokens are those that the tokenizer flags as special and those that look like markup.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Collect the control tokens, longest name first so that none hides another."""
        self.tokenizer = tokenizer
        # A rare character may become the unknown token, which controls nothing.
        unknown = {tokenizer.unk_token_id} - {tokenizer.eos_token_id}
        self.controls: dict[str, int] = {
            token.content: token_id
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if token_id not in unknown and (token.special or MARKUP.fullmatch(token.content))
        }
        self.control_ids = frozenset(self.controls.values())
        names = sorted(self.controls, key=len, reverse=True)
        is_fast = tokenizer.is_fast
        self._backend = without_controls(tokenizer, self.controls) if is_fast else None
        # Without control tokens the pattern is one that never matches.
        self._pattern = re.compile("|".join(map(re.escape, names)) if names else r"(?!)")
        self.ids = lru_cache(maxsize=4096)(self._ids)

    def split(self, text: str) -> list[tuple[str, str | None]]:
        """Return (plain text, the control token's name after it) pairs; the last has None.

        Example: "[gMASK]<sop>hi" -> [("", "[gMASK]"), ("", "<sop>"), ("hi", None)].
        """
        literals = self._pattern.split(text)
        return list(zip(literals, [*self._pattern.findall(text), None], strict=True))

    def batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, encoded together: a fast tokenizer uses all cores."""
        encoded = self._call(texts)
        for number, ids in enumerate(encoded):
            if not self.control_ids.isdisjoint(ids):  # its vocabulary knows a name as a word
                encoded[number] = sum(self._call(self._pieces(texts[number])), [])
        assert all(map(self.control_ids.isdisjoint, encoded)), "a control token came out of text"
        return encoded

    def stream(
        self, batches: Iterable[tuple[Sequence[str], ContextT]]
    ) -> Iterator[tuple[list[list[int]], ContextT]]:
        """Yield the ids of each batch of texts, and what came with it, in order.

        A thread encodes one batch (it leaves Python to others) while the next is put together.
        """
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead: list[tuple[Future[list[list[int]]], ContextT]] = []
            for texts, context in batches:
                ahead.append((pool.submit(self.batch, texts), context))
                if len(ahead) == 2:
                    ids, before = ahead.pop(0)
                    yield ids.result(), before
            for ids, before in ahead:
                yield ids.result(), before

    def _ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of `text` (cached: a conversation's turns are encoded several times)."""
        return tuple(self.batch([text])[0])

    def _pieces(self, text: str) -> list[str]:
        """Cut `text` inside the names of control tokens: then none is ever seen whole."""
        pieces = [""]
        for literal, control in self.split(text):
            pieces[-1] += literal
            if control is not None:
                pieces[-1] += control[:1]
                pieces.append(control[1:])
        return [piece for piece in pieces if piece]

    def _call(self, texts: Sequence[str]) -> list[list[int]]:
        if self._backend is None:
            return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def without_controls(tokenizer: PreTrainedTokenizerBase, controls: Container[str]) -> Tokenizer:
    """Return the Rust core of a fast tokenizer, for which the names of control tokens are text.

    It is called straight: what transformers puts around it for each text (masks, offsets) takes as
    long again.
    """
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in core["added_tokens"]:
        token["special"] = token["special"] or token["content"] in controls
    backend = Tokenizer.from_str(json.dumps({**core, "padding": None, "truncation": None}))
    backend.encode_special_tokens = True
    return backend
