"""What a model has already answered in this evaluation, so that an interrupted one goes on.

One line of JSON an answer, in the order of the computation. A line that a kill cut short is left
out, and its request is asked again.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEY_BYTES = 16  # of a SHA-256: two requests among a billion that share it are not to be expected


class Responses:
    """Answers by request, kept in a file; `path` None keeps them in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what an interrupted evaluation left there."""
        self.path = path
        self._answers: dict[bytes, Any] = {}
        if path is not None and path.exists():
            self._read(path)

    def __len__(self) -> int:
        """Return how many answers there are."""
        return len(self._answers)

    def find(self, kind: str, arguments: Sequence[Any]) -> Any:
        """Return the answer to a request, or None."""
        return self._answers.get(key_of(kind, arguments))

    def add(self, kind: str, answered: Sequence[tuple[Sequence[Any], Any]]) -> None:
        """Keep the answers of a batch: (arguments, answer) pairs, answers as JSON has them."""
        keyed = [(key_of(kind, arguments), answer) for arguments, answer in answered]
        self._answers.update(keyed)
        if self.path is None:
            return
        lines = [json.dumps([key.hex(), answer], ensure_ascii=False) for key, answer in keyed]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def _read(self, path: Path) -> None:
        whole = path.read_bytes().rpartition(b"\n")[0]
        for line in whole.splitlines():
            key, answer = json.loads(line)
            self._answers[bytes.fromhex(key)] = answer
        # A cut line must not become the beginning of the next one.
        path.write_bytes(whole + b"\n" if whole else b"")


def key_of(kind: str, arguments: Sequence[Any]) -> bytes:
    """Return what stands for a request; the arguments are JSON values."""
    text = json.dumps([kind, *arguments], ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).digest()[:KEY_BYTES]
