"""GLM-4's tokenizer: a tiktoken file of byte pairs made into a fast tokenizer with the same ids."""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from medtune.common.errors import CheckpointError
from medtune.models.conversion.byte_pairs import find_pairs
from medtune.models.tiny import SPLIT_PATTERN
from medtune.models.weight_files import FETCH_AGAIN


def read_tiktoken(path: Path) -> dict[bytes, int]:
    """Return the rank of each token. Raises CheckpointError naming the first wrong line."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise CheckpointError(
                f"{path}:{number}: expected a base64 token and its rank, found {line[:40]!r}. "
                f"{FETCH_AGAIN}"
            ) from error
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise CheckpointError(
            f"{path}: expected the ranks 0 to {len(ranks) - 1:,}, each once, found others. "
            f"{FETCH_AGAIN}"
        )
    absent = [value for value in range(256) if bytes([value]) not in ranks]
    if absent:
        raise CheckpointError(
            f"{path}: expected a token for each of the 256 bytes, found none for {absent[0]}. "
            f"{FETCH_AGAIN}"
        )
    return ranks


def build_tiktoken(path: Path, special_tokens: Sequence[str], prefix: Sequence[str]) -> Tokenizer:
    """Return the tokenizer; special tokens have the ids after the last rank, in order.

    prefix: the special tokens that begin every text.
    """
    ranks = read_tiktoken(path)
    letters = byte_letters()

    def name(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    backend = Tokenizer(
        BPE(
            vocab={name(token): rank for token, rank in ranks.items()},
            merges=[(name(left), name(right)) for left, right in find_pairs(ranks)],
            ignore_merges=True,  # tiktoken takes a word that is a token as it is
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    finish(path, backend, special_tokens, prefix)
    return backend


def finish(
    path: Path, backend: Tokenizer, special_tokens: Sequence[str], prefix: Sequence[str]
) -> None:
    """Add the special tokens after the vocabulary and begin every text with the prefix.

    Raises CheckpointError if the vocabulary has a piece of such a name, whose id it would take.
    """
    for token in special_tokens:
        if backend.token_to_id(token) is not None:
            raise CheckpointError(
                f"{path}: expected no piece named {token}, which is a special token, found one."
            )
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_tokens]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=[*prefix, "$A"],
        special_tokens=[(token, backend.token_to_id(token)) for token in prefix],
    )


def byte_letters() -> dict[int, str]:
    """Return the letter that stands for each byte in a byte-level vocabulary, as GPT-2 chose them.

    Printable Latin-1 characters stand for themselves, the other bytes for those from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {
        **{byte: chr(byte) for byte in printable},
        **{byte: chr(0x100 + number) for number, byte in enumerate(others)},
    }
