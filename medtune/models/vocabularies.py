"""Tokenizers for models that begin from nothing: byte pairs as GPT-2's, WordPiece as BERT's.

Both come with the chat template of their family: a tag before each question and each answer, or
turns that each end with [SEP], as GPT2-chitchat has them.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from medtune.common.errors import ConfigError, DataError
from medtune.common.log import logger
from medtune.models.families import GPT2_QUESTIONS, GPT2_WORDPIECE

END_OF_TEXT, *TAGS = GPT2_QUESTIONS.control_tokens
PAD, UNKNOWN, FIRST, END_OF_TURN, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
WORDPIECE_SPECIALS = (PAD, UNKNOWN, FIRST, END_OF_TURN, MASK)
CONTINUES = "##"  # what a piece begins with that is not the first of its word
MIN_WORD_COUNT = 2  # a word that was read once is a chance find
NUM_BYTES = 256

# BERT's decoder sets a blank between all words; beside what is not ASCII none was written.
NO_BLANK = Regex(r"(?<=[^\x00-\x7f]) | (?=[^\x00-\x7f])|(?<=\d\.) (?=\d)")


def train_byte_pairs(texts: Iterable[str], num_tokens: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most `num_tokens` tokens, as GPT-2's.

    Any text has ids, and decodes to what it was. Raises ConfigError for fewer tokens than the bytes
    and the control tokens are.
    """
    added = GPT2_QUESTIONS.control_tokens
    if num_tokens < NUM_BYTES + len(added):
        raise ConfigError(
            f"--vocab_size: expected at least {NUM_BYTES + len(added)} ({NUM_BYTES} bytes and "
            f"{', '.join(added)}), found {num_tokens}."
        )
    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = num_tokens - len(added)
    trainer = BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(texts, trainer)
    core.add_special_tokens([AddedToken(name, special=True) for name in added])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        extra_special_tokens=TAGS,
        chat_template=GPT2_QUESTIONS.chat_template,
        clean_up_tokenization_spaces=False,
    )


def add_question_answer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give a trained model's tokenizer the two tags and their template, which it must not have.

    Raises ConfigError for one with a chat template, or without an end-of-text token.
    """
    if tokenizer.chat_template:
        raise ConfigError(
            f"--base_model {name}: expected a model without a chat template, found one: start a "
            "stage from it as it is."
        )
    if tokenizer.eos_token is None:
        raise ConfigError(f"--base_model {name}: expected a tokenizer with an end-of-text token.")
    tokenizer.add_special_tokens({"extra_special_tokens": TAGS})
    tokenizer.chat_template = GPT2_QUESTIONS.chat_template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


# -- WordPiece


def wordpiece_tokenizer(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose ids are those of BertTokenizerFast with this vocabulary.

    A token's id is its place. Text is put in lower case; a word with a character that the
    vocabulary lacks is [UNK]. [CLS] comes before a text and [SEP] ends it, as end-of-text.
    """
    ids = {token: number for number, token in enumerate(vocabulary)}
    core = Tokenizer(WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=100))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces = decoders.WordPiece(prefix=CONTINUES, cleanup=True)
    core.decoder = decoders.Sequence([pieces, decoders.Fuse(), decoders.Replace(NO_BLANK, "")])
    core.add_special_tokens([AddedToken(name, special=True) for name in WORDPIECE_SPECIALS])
    core.post_processor = TemplateProcessing(
        single=f"{FIRST} $A", special_tokens=[(FIRST, ids[FIRST])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=FIRST,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=END_OF_TURN,
        mask_token=MASK,
        chat_template=GPT2_WORDPIECE.chat_template,
        clean_up_tokenization_spaces=False,
    )


def count_vocabulary(texts: Iterable[str], num_tokens: int) -> list[str]:
    """Return a WordPiece vocabulary: control tokens, characters, then whole words, by frequency.

    Chinese characters are words of their own. The library's trainer is not used: it gives another
    vocabulary each time that it runs on the same texts.
    Example: ["CT 头痛 CT"] -> [PAD] … [MASK], ##t, c, 头, 痛, ct
    Raises ConfigError for fewer tokens than the control tokens and one more; texts whose characters
    do not all find room are warned of.
    """
    if num_tokens <= len(WORDPIECE_SPECIALS):
        raise ConfigError(
            f"--vocab_size: expected more than the {len(WORDPIECE_SPECIALS)} control tokens, found "
            f"{num_tokens}."
        )
    words = count_words(texts)
    pieces: Counter[str] = Counter()
    for word, count in words.items():
        pieces[word[0]] += count
        for character in word[1:]:
            pieces[CONTINUES + character] += count
    whole = Counter({w: n for w, n in words.items() if len(w) > 1 and n >= MIN_WORD_COUNT})
    room = num_tokens - len(WORDPIECE_SPECIALS)
    characters = by_frequency(pieces)
    if len(characters) > room:
        lost = sum(pieces[piece] for piece in characters[room:])
        logger.warning(
            "--vocab_size %s: %s pieces of one character find no room, %.2f%% of those read; they "
            "become %s",
            f"{num_tokens:,}",
            f"{len(characters) - room:,}",
            100 * lost / pieces.total(),
            UNKNOWN,
        )
    return [*WORDPIECE_SPECIALS, *[*characters, *by_frequency(whole)][:room]]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Return how often each word of BERT's splitting occurs."""
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        normal = normalizer.normalize_str(text)
        words.update(word for word, _ in splitter.pre_tokenize_str(normal))
    return words


def by_frequency(counts: Counter[str]) -> list[str]:
    """Return the most frequent first; the same order every time."""
    return sorted(counts, key=lambda piece: (-counts[piece], piece))


def read_vocabulary(path: Path) -> list[str]:
    """Return the tokens of a vocab.txt, in its order. Raises DataError with `file:line`."""
    if not path.is_file():
        raise DataError(f"{path}: expected a vocabulary, a token a line, found no file.")
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, found {error}.") from error
    tokens = [line.removesuffix("\r") for line in lines]
    first: dict[str, int] = {}
    for number, token in enumerate(tokens, start=1):
        if not token or first.setdefault(token, number) != number:
            found = f"{token!r} of line {first[token]} again" if token else "an empty line"
            raise DataError(f"{path}:{number}: expected another token, found {found}.")
    missing = [name for name in WORDPIECE_SPECIALS if name not in first]
    if missing:
        raise DataError(f"{path}: expected the tokens {', '.join(missing)}, found none of them.")
    return tokens
