"""Text from token ids as they come: whole characters only."""

from transformers import PreTrainedTokenizerBase

INCOMPLETE = "\ufffd"  # what decoding makes of bytes that are no character, or not yet


class TextStream:
    """Turns ids into pieces of text that put together are the text of all ids, stripped.

    A character may take several tokens (bytes of byte-level BPE, byte pieces of sentencepiece): it
    comes when it is complete, and never if the last ids leave it incomplete. White space comes with
    the text after it. Each step decodes the last few ids only, beginning one piece back, because a
    tokenizer may strip the blank before the first word that it decodes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Begin a text."""
        self.tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = self._shown = 0  # places in _ids: of the piece before, of the next one
        self._is_begun = False
        self._space = ""

    def add(self, token: int) -> str:
        """Return what the token completes, often nothing."""
        self._ids.append(token)
        before, now = self._decode()
        if now.endswith(INCOMPLETE) or len(now) <= len(before):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return self._strip(now[len(before) :])

    def finish(self) -> str:
        """Return the characters that waited for an incomplete one behind them."""
        before, now = self._decode()
        return self._strip(now.rstrip(INCOMPLETE)[len(before) :])

    def _decode(self) -> tuple[str, str]:
        """Return the text of the piece before, and the same with what is new."""
        before, now = (
            self.tokenizer.decode(ids, skip_special_tokens=True)
            for ids in (self._ids[self._start : self._shown], self._ids[self._start :])
        )
        return before, now

    def _strip(self, piece: str) -> str:
        piece = self._space + piece
        if not self._is_begun:
            piece = piece.lstrip()
        text = piece.rstrip()
        self._space = piece[len(text) :]
        self._is_begun = self._is_begun or bool(text)
        return text
