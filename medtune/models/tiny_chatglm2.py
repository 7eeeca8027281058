"""A stand-in for ChatGLM2-6B: the built-in tiny model in the old `chatglm` format, to be converted.

It has ChatGLM2's kind of tokenizer, learnt from `data/`, and has read what `tiny-glm` has read. It
is built on first use, in about a minute on two cores, and kept in the same cache.
"""

import io
from pathlib import Path

import torch
from sentencepiece import SentencePieceTrainer

from medtune.common.cache import cache_root, read_or_build
from medtune.common.files import sha256_of_file, sha256_of_json, write_json
from medtune.common.log import logger
from medtune.models import conversion, tiny
from medtune.models.conversion.config import old_config
from medtune.models.conversion.generations import CHATGLM2, TOKENIZER_MODEL, read_old_tokenizer
from medtune.models.conversion.layout import to_old
from medtune.models.conversion.shards import BIN_WEIGHTS
from medtune.models.tiny import NUM_BYTE_PAIRS, data_files, first_reading, new_model, texts_of
from medtune.models.weight_files import CONFIG, TOKENIZER_CONFIG

TINY_CHATGLM2 = "tiny-chatglm2"
NUM_POSITIONS = 1024


def tiny_chatglm2_folder() -> Path:
    """Return the folder of the stand-in, in the old format; the first call on a machine builds it.

    Its key in the cache covers the data and the code that builds it.
    """
    code = [Path(__file__), Path(tiny.__file__), *Path(*conversion.__path__).glob("*.py")]
    key = sha256_of_json([sha256_of_file(file) for file in sorted([*data_files(), *code])])[:12]
    folder = cache_root() / f"{TINY_CHATGLM2}-{key}"
    return read_or_build(folder, lambda path: path if path.is_dir() else None, build)[0]


def build(folder: Path) -> None:
    """Train tokenizer and model, and write them as ChatGLM2 was published, without its code."""
    logger.info("building the stand-in %s (once, about a minute)", TINY_CHATGLM2)
    (folder / TOKENIZER_MODEL).write_bytes(train_sentencepiece())
    tokenizer = read_old_tokenizer(folder, CHATGLM2, NUM_POSITIONS)
    model = new_model(tokenizer)
    loss = tiny.pretrain(model, first_reading(tokenizer))
    torch.save(to_old(model.state_dict(), model.config), folder / BIN_WEIGHTS)
    write_json(folder / CONFIG, {"_name_or_path": TINY_CHATGLM2, **old_config(model.config)})
    write_json(
        folder / TOKENIZER_CONFIG,
        {"name_or_path": TINY_CHATGLM2, "tokenizer_class": "ChatGLMTokenizer"},
    )
    logger.info("built %s: loss %.2f", TINY_CHATGLM2, loss)


def train_sentencepiece() -> bytes:
    """Return a sentencepiece model of the kind of ChatGLM2's, learnt from the built-in data."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(text for path in data_files() for text in texts_of(path)),
        model_writer=model,
        model_type="bpe",
        vocab_size=NUM_BYTE_PAIRS,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,  # its result must not depend on the machine
        minloglevel=2,
    )
    return model.getvalue()
