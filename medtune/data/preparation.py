"""Files to training rows for each stage, with every token and every dropped row in the ledger.

    prepare_… = rows from the cache, or: load_… -> screen_rows -> write_… (batch by batch) -> rows

Rows, ledger and rejects are the same either way. What is mixed in is drawn from the rows at last.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from medtune.arguments import DataArguments, mix_percentages
from medtune.common.errors import ConfigError, DataError
from medtune.common.log import logger
from medtune.data.batching import Batch, BatchRenderer, batches_of
from medtune.data.grouping import BlockCutter, tokenize_batches
from medtune.data.ledger import TOKENS
from medtune.data.limits import Limits, fit_conversation, fit_pair, limits_of
from medtune.data.loading import data_files, load_conversations, load_preferences, load_texts
from medtune.data.mixing import mix_rows
from medtune.data.parts import Loaded, Reject
from medtune.data.records import Conversation, PreferencePair, RecordT
from medtune.data.rendering import (
    ChatRenderer,
    PairIds,
    Rendered,
    count_tokens,
)
from medtune.data.row_cache import cached_rows, write_facts
from medtune.data.rows import SOURCE, Row, Rows, RowWriter, file_of_part
from medtune.data.screening import screen_rows

NO_ROOM = "prompt_over_max_length"
ItemT = TypeVar("ItemT", Rendered, PairIds)


def prepare_blocks(
    arguments: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    doc_separator: str,
    block_size: int,
    seed: int,
) -> Rows:
    """Return blocks of text; the tokens that go in are the tokens that come out.

    Raises ConfigError for limits of what a text has not.
    """
    if arguments.max_source_length or arguments.max_target_length:
        raise ConfigError(
            "--max_source_length, --max_target_length: expected rows with prompts and replies, "
            "found text for pretraining; leave them out, --block_size is the length of its blocks."
        )

    def build(folder: Path) -> None:
        data = load_texts(arguments, doc_separator, seed)
        matches = screen_rows(data, arguments)
        batches = (([r.text for r in b.records], b) for b in batches_of(data.records()))
        write_blocks(data, tokenize_batches(batches, tokenizer), block_size, folder)
        write_facts(folder, data, contamination=matches)

    options = {"stage": "blocks", "seed": seed}
    options |= {"doc_separator": doc_separator, "block_size": block_size}
    return prepare(arguments, tokenizer, options, build)


def prepare_conversation_blocks(
    arguments: DataArguments, renderer: ChatRenderer, block_size: int, seed: int
) -> Rows:
    """Return blocks whose documents are conversations, as the chat template writes them.

    Every token is learnt, the questions' too; none is lost.
    """

    def build(folder: Path) -> None:
        data = load_conversations(arguments, seed)
        matches = screen_rows(data, arguments)
        rendered = BatchRenderer(renderer).conversations(batches_of(data.records()))
        documents = (([item.input_ids for item in items], batch) for batch, items in rendered)
        write_blocks(data, documents, block_size, folder)
        write_facts(folder, data, renderer.turn_ends, matches)

    options = {"stage": "conversation blocks", "seed": seed, "block_size": block_size}
    options["turn_end"] = renderer.turn_end
    return prepare(arguments, renderer.tokenizer, options, build)


def prepare_conversations(
    arguments: DataArguments, renderer: ChatRenderer, max_length: int | None, seed: int
) -> Rows:
    """Return rows with input_ids and labels, at most max_length tokens each and within the limits
    that the options set for prompt and reply.
    """

    def build(folder: Path) -> None:
        data = load_conversations(arguments, seed)
        matches = screen_rows(data, arguments)
        write_conversations(data, renderer, limits_of(arguments, max_length), folder)
        write_facts(folder, data, renderer.turn_ends, matches)

    options = {"stage": "conversations", "seed": seed, "max_length": max_length}
    options["turn_end"] = renderer.turn_end
    rows = prepare(arguments, renderer.tokenizer, options, build)
    renderer.turn_ends.update(rows.turn_ends)
    return rows


def prepare_pairs(
    arguments: DataArguments, renderer: ChatRenderer, max_length: int | None, seed: int
) -> Rows:
    """Return rows with prompt_ids, chosen_ids and rejected_ids."""

    def build(folder: Path) -> None:
        data = load_preferences(arguments, seed)
        matches = screen_rows(data, arguments)
        write_pairs(data, renderer, limits_of(arguments, max_length), folder)
        write_facts(folder, data, renderer.turn_ends, matches)

    options = {"stage": "pairs", "seed": seed, "max_length": max_length}
    options["turn_end"] = renderer.turn_end
    return prepare(arguments, renderer.tokenizer, options, build)


def prepare(
    arguments: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    options: dict[str, Any],
    build: Callable[[Path], None],
) -> Rows:
    """Return the rows that `build` writes into a folder, or wrote before from the same things."""
    percentages = mix_percentages(arguments.mix)
    # The folders only: other percentages draw other rows from the same ones.
    options = {**asdict(arguments), "mix": list(percentages), **options}
    rows = cached_rows(data_files(arguments), tokenizer, options, build)
    for reason, count in rows.ledger["rows"]["rejected"].items():
        logger.warning("left out %s rows: %s (see rejects.jsonl)", f"{count:,}", reason)
    return mix_rows(rows, percentages, options["seed"])


def write_blocks(
    data: Loaded[RecordT],
    batches: Iterable[tuple[list[list[int]], Batch[RecordT]]],
    block_size: int,
    folder: Path,
) -> None:
    """Write the documents of all parts as blocks.

    batches: the token ids of each document of a batch, and the batch.
    """
    cutters = {part: BlockCutter(block_size) for part in data.parts.values()}
    sources: dict[int, list[int]] = {part: [] for part in cutters}  # of the block that is open
    with open_writers(data, folder) as writers:
        for documents, batch in batches:
            for place, record, document in zip(batch.places, batch.records, documents, strict=True):
                part = int(data.part_of[place])
                cutter = cutters[part]
                num_pieces = cutter.num_pieces
                where = [data.file_of(place), record.source.line]
                for row in cutter.add(document):
                    writers[part].add({**row, SOURCE: sources[part] + where})
                    sources[part] = []
                if not cutter.is_empty:
                    sources[part] += where
                num_supervised = len(document) - (cutter.num_pieces - num_pieces)
                count_tokens(tokens_of(data, place), len(document), len(document), num_supervised)
        for part, cutter in cutters.items():
            for row in cutter.rest():
                writers[part].add({**row, SOURCE: sources[part]})


def write_conversations(
    data: Loaded[Conversation], renderer: ChatRenderer, limits: Limits, folder: Path
) -> None:
    """Write the conversations of all parts as ids and labels."""

    def fit(record: Conversation, rendered: Rendered, tokens: Counter[str]) -> Row | None:
        kept = fit_conversation(renderer, record, rendered, limits, tokens)
        return None if kept is None else vars(kept)

    write_rendered(data, BatchRenderer(renderer).conversations, fit, limits, folder)


def write_pairs(
    data: Loaded[PreferencePair], renderer: ChatRenderer, limits: Limits, folder: Path
) -> None:
    """Write the pairs of all parts as the ids of prompt and answers."""

    def fit(record: PreferencePair, pair: PairIds, tokens: Counter[str]) -> Row | None:
        return fit_pair(renderer, record, pair, limits, tokens)

    write_rendered(data, BatchRenderer(renderer).pairs, fit, limits, folder)


def write_rendered(
    data: Loaded[RecordT],
    render: Callable[[Iterable[Batch[RecordT]]], Iterator[tuple[Batch[RecordT], list[ItemT]]]],
    fit: Callable[[RecordT, ItemT, Counter[str]], Row | None],
    limits: Limits,
    folder: Path,
) -> None:
    """Render and fit all parts; a record without room for an answer is moved to the rejects.

    Raises DataError if a part has nothing left.
    """
    num_records = {name: int((data.part_of == part).sum()) for name, part in data.parts.items()}
    message = f"the prompt leaves no room for its answers within {limits}."
    with open_writers(data, folder) as writers:
        for batch, items in render(batches_of(data.records())):
            for place, record, item in zip(batch.places, batch.records, items, strict=True):
                row = fit(record, item, tokens_of(data, place))
                if row is None:
                    data.leave_out(place, Reject(record.source, NO_ROOM, message))
                else:
                    source = [data.file_of(place), record.source.line]
                    writers[int(data.part_of[place])].add({**row, SOURCE: source})
    for name, num_rows in data.num_rows.items():
        if not num_rows:
            raise DataError(
                f"{name}: expected rows with a supervised token, found none in "
                f"{num_records[name]:,} rows; raise {limits}."
            )


def tokens_of(data: Loaded[RecordT], place: int) -> Counter[str]:
    """Return the count that the tokens of a record are entered into."""
    key = int(data.part_of[place]), data.file_of(place)
    if key not in data.tokens:
        data.tokens[key] = Counter(dict.fromkeys(TOKENS, 0))
    return data.tokens[key]


@contextmanager
def open_writers(data: Loaded[RecordT], folder: Path) -> Iterator[dict[int, RowWriter]]:
    """Give a writer for each part. AssertionError if it was not given the tokens that were kept."""
    with ExitStack() as stack:
        writers = {
            part: stack.enter_context(RowWriter(folder / file_of_part(part)))
            for part in data.parts.values()
        }
        yield writers
    for name, part in data.parts.items():
        data.num_rows[name] = writers[part].num_rows
        num_kept = sum(count["kept"] for (p, _), count in data.tokens.items() if p == part)
        assert writers[part].num_tokens == num_kept, f"{name}: tokens do not balance"
