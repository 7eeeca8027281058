"""The tokenizer of ChatGLM2 and 3: a sentencepiece model made into a fast one with the same ids."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from medtune.common.errors import CheckpointError
from medtune.models.conversion.byte_pairs import find_pairs
from medtune.models.conversion.tiktoken_file import finish
from medtune.models.weight_files import FETCH_AGAIN

SPACE = "\u2581"  # what sentencepiece writes for a space
UNKNOWN, END = "<unk>", "</s>"
Piece = proto.ModelProto.SentencePiece


def read_sentencepiece(path: Path) -> Any:
    """Return the model's own description. Raises CheckpointError: damaged, or of another kind."""
    model = proto.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf raises a type of its own that it does not export
        raise CheckpointError(
            f"{path}: expected a sentencepiece model: {error}. {FETCH_AGAIN}"
        ) from error
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    wrong = {
        "a model of byte pairs (BPE)": trainer.model_type != proto.TrainerSpec.BPE,
        "byte_fallback": not trainer.byte_fallback,
        "spaces before words": trainer.treat_whitespace_as_suffix,
        "add_dummy_prefix": not normalizer.add_dummy_prefix,
        "escape_whitespaces": not normalizer.escape_whitespaces,
        "identity normalisation": bool(normalizer.precompiled_charsmap),
        "no unused pieces": any(piece.type == Piece.UNUSED for piece in model.pieces),
        "no two pieces of one score": has_equal_scores(model),
        f"{UNKNOWN} as piece 0": not model.pieces or model.pieces[0].piece != UNKNOWN,
        f"{END} among the pieces": all(piece.piece != END for piece in model.pieces),
    }
    for expected, is_wrong in wrong.items():
        if is_wrong:
            raise CheckpointError(
                f"{path}: expected a sentencepiece model as ChatGLM2 and ChatGLM3 have it, with "
                f"{expected}, found another: its ids could not be kept."
            )
    return model


def has_equal_scores(model: Any) -> bool:
    """True if two pieces of several characters compete on equal terms."""
    scores = [piece.score for piece in model.pieces if is_joined(piece)]
    return len(set(scores)) < len(scores)


def is_joined(piece: Any) -> bool:
    """True for a piece that is made by joining others."""
    return piece.type == Piece.NORMAL and len(piece.piece) > 1


def build_sentencepiece(
    path: Path, special_tokens: Sequence[str], prefix: Sequence[str]
) -> Tokenizer:
    """Return the tokenizer; special tokens have the ids after the last piece, in order.

    prefix: the special tokens that begin every text.
    """
    model = read_sentencepiece(path)
    vocabulary = {piece.piece: number for number, piece in enumerate(model.pieces)}
    ranks = {piece.piece: -piece.score for piece in model.pieces if piece.type == Piece.NORMAL}
    pairs = find_pairs(ranks)
    absent = [part for pair in pairs for part in pair if part not in ranks]
    if absent:
        raise CheckpointError(
            f"{path}: expected each piece to be made of others, found no piece {absent[0]!r}."
        )
    whole = [piece.piece for piece in model.pieces if piece.type == Piece.USER_DEFINED]
    backend = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=pairs,
            unk_token=UNKNOWN,
            fuse_unk=True,
            byte_fallback=True,
            ignore_merges=bool(whole),
        )
    )
    spaces = [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    if model.normalizer_spec.remove_extra_whitespaces:
        spaces = [
            normalizers.Replace(Regex(r"\A +"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex(rf"[ {SPACE}]+\z"), ""),
            *spaces,
        ]
    backend.normalizer = normalizers.Sequence(spaces)
    if whole:
        longest_first = "|".join(re.escape(piece) for piece in sorted(whole, key=len, reverse=True))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(longest_first), behavior="isolated")
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens([UNKNOWN, END])
    finish(path, backend, special_tokens, prefix)
    return backend
