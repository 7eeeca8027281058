"""Rows of token ids that every system gets: from real files if they are there, else by length.

Real text is tokenised by a tokenizer trained on it (nothing is downloaded) and rendered by the
project's own data code, once, before anything is timed. Without the files, lengths are drawn from
the quantiles in bench/cases.py and ids from a skewed distribution: the same padding, sharing and
head work.
"""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy
from transformers import PreTrainedTokenizerFast

from bench.cases import LONG_PROMPT_ANSWER_TOKENS, LONG_PROMPT_TOKENS, QUANTILES, Case
from bench.flops import IGNORE_INDEX, Row
from bench.models import SHAPES
from medtune.arguments import DataArguments
from medtune.data.grouping import group_text_function
from medtune.data.loading import load_conversations
from medtune.data.preparation import prepare_blocks, prepare_conversations, prepare_pairs
from medtune.data.records import Conversation
from medtune.data.rendering import ChatRenderer
from medtune.models.families import GLM
from medtune.models.tiny import SPECIAL_TOKENS, texts_of, tokenizer_of

SEED = 20
FILES = {
    "sft": "finetune/medicalgpt_medical_sft.jsonl",
    "dpo": "reward/medicalgpt_dpo_zh_500.jsonl",
    "pt": "pretrain",
}


def real_source(case: Case, data_dir: Path | None) -> Path | None:
    """Return the file or folder that the case reads, or None if it is to be synthetic."""
    if data_dir is None or case.is_long_prompt:
        return None
    path = data_dir / FILES[case.kind]
    return path if path.exists() else None


def build_tokenizer(vocab_size: int, source: Path | None) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with GLM-4's split, special tokens and template.

    source: what it is trained on; None: a tokenizer that knows bytes only.
    """
    files = [] if source is None else [source] if source.is_file() else sorted(source.glob("*.txt"))
    texts = (text for file in files for text in texts_of(file))
    return tokenizer_of(texts, vocab_size - len(SPECIAL_TOKENS))


def build_rows(case: Case, tokenizer: PreTrainedTokenizerFast, source: Path | None) -> list[Row]:
    """Return the case's rows, in the order in which every system trains on them.

    sft: input_ids, labels.   pt: seq_lengths too.   dpo: prompt_ids, chosen_ids, rejected_ids.
    """
    if source is None:
        return synthetic_rows(case)
    arguments = DataArguments(str(source), max_rejected_percentage=100)
    if case.kind == "pt":
        size = case.max_length_tokens
        return sample(prepare_blocks(arguments, tokenizer, "blank_line", size, SEED).train, case)
    prepare = prepare_conversations if case.kind == "sft" else prepare_pairs
    renderer = ChatRenderer(tokenizer, GLM.turn_end)
    return sample(prepare(arguments, renderer, case.max_length_tokens, SEED).train, case)


def real_conversations(case: Case, source: Path) -> list[Conversation]:
    """Return the conversations of a case's rows, for systems that tokenise on their own."""
    arguments = DataArguments(str(source), max_rejected_percentage=100)
    return sample(load_conversations(arguments, SEED).train, case)


def sample(items: Iterable[Any], case: Case) -> list[Any]:
    """Return as many items as the case has rows, in a seeded order."""
    shuffled = list(items)
    random.Random(SEED).shuffle(shuffled)
    return shuffled[: case.num_rows]


class Drawer:
    """Draws lengths and ids, the same for the same case."""

    def __init__(self, case: Case) -> None:
        """Seed by SEED alone: cases of one kind and model share their rows."""
        self.case = case
        self.generator = numpy.random.default_rng(SEED)
        ranks = numpy.arange(SHAPES[case.model]["vocab_size"] - 1)
        weights = 1 / (ranks + 10)  # few tokens are frequent, as in text, so there is much to learn
        self.shares = weights / weights.sum()

    def length(self, part: str) -> int:
        """Return a length from the quantiles of one part of a row."""
        quantiles = QUANTILES[self.case.kind][part]
        position = self.generator.uniform(0, len(quantiles) - 1)
        return round(float(numpy.interp(position, range(len(quantiles)), quantiles)))

    def ids(self, length: int) -> list[int]:
        """Return ids; 0 is left out, which pads."""
        drawn = self.generator.choice(len(self.shares), size=length, p=self.shares)
        return [int(token) + 1 for token in drawn]


def synthetic_rows(case: Case) -> list[Row]:
    """Return rows of drawn lengths and ids, cut as the real ones are."""
    drawer = Drawer(case)
    if case.kind == "pt":
        num_tokens, documents = 0, []
        while num_tokens < case.num_rows * case.max_length_tokens:
            documents.append(drawer.ids(drawer.length("document")))
            num_tokens += len(documents[-1])
        return group_text_function(documents, case.max_length_tokens)[: case.num_rows]
    draw = draw_conversation if case.kind == "sft" else draw_pair
    return [draw(drawer) for _ in range(case.num_rows)]


def draw_conversation(drawer: Drawer) -> Row:
    """Return one conversation; its prompt leaves room for at least one token of answer."""
    limit = drawer.case.max_length_tokens
    prompt = drawer.ids(min(drawer.length("prompt"), limit - 1))
    answer = drawer.ids(drawer.length("answer"))[: limit - len(prompt)]
    return {"input_ids": prompt + answer, "labels": [IGNORE_INDEX] * len(prompt) + answer}


def draw_pair(drawer: Drawer) -> Row:
    """Return one pair; the long ones have a fixed prompt and answers."""
    limit = drawer.case.max_length_tokens
    lengths: dict[str, Any] = {
        "prompt": LONG_PROMPT_TOKENS,
        "chosen": LONG_PROMPT_ANSWER_TOKENS,
        "rejected": LONG_PROMPT_ANSWER_TOKENS,
    }
    if not drawer.case.is_long_prompt:
        lengths = {part: drawer.length(part) for part in lengths}
    lengths["prompt"] = min(lengths["prompt"], limit - 2)
    room = limit - lengths["prompt"]
    return {
        "prompt_ids": drawer.ids(lengths["prompt"]),
        "chosen_ids": drawer.ids(min(lengths["chosen"], room)),
        "rejected_ids": drawer.ids(min(lengths["rejected"], room)),
    }
