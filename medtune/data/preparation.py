"""Files to training rows for each stage, with every token and every dropped row in the ledger.

    prepare_… = rows from the cache, or: load_… -> write_… (batch by batch) -> rows

Rows, ledger and rejects are the same either way.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from medtune.arguments import DataArguments
from medtune.common.errors import DataError
from medtune.common.log import logger
from medtune.data.batching import Batch, BatchRenderer, batches_of
from medtune.data.grouping import BlockCutter, tokenize_batches
from medtune.data.loading import data_files, load_conversations, load_preferences, load_texts
from medtune.data.parts import PARTS, UNUSED, Loaded, Reject
from medtune.data.records import Conversation, PreferencePair, RecordT, TextRecord
from medtune.data.rendering import ChatRenderer, PairIds, Rendered, cut_conversation, cut_pair
from medtune.data.row_cache import Row, Rows, RowWriter, cached_rows, write_facts

NO_ROOM = "prompt_over_max_length"
Writers = dict[int, tuple[RowWriter, Counter[str]]]  # of each part: its rows and its tokens
ItemT = TypeVar("ItemT", Rendered, PairIds)


def prepare_blocks(
    arguments: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    doc_separator: str,
    block_size: int,
    seed: int,
) -> Rows:
    """Return blocks of text; the tokens that go in are the tokens that come out."""

    def build(folder: Path) -> None:
        write_blocks(load_texts(arguments, doc_separator, seed), tokenizer, block_size, folder)

    options = {"stage": "blocks", "seed": seed}
    options |= {"doc_separator": doc_separator, "block_size": block_size}
    return prepare(arguments, tokenizer, options, build)


def prepare_conversations(
    arguments: DataArguments, renderer: ChatRenderer, max_length: int | None, seed: int
) -> Rows:
    """Return rows with input_ids and labels, at most max_length tokens each."""

    def build(folder: Path) -> None:
        write_conversations(load_conversations(arguments, seed), renderer, max_length, folder)

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
        write_pairs(load_preferences(arguments, seed), renderer, max_length, folder)

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
    rows = cached_rows(data_files(arguments), tokenizer, {**asdict(arguments), **options}, build)
    for reason, count in rows.ledger["rows"]["rejected"].items():
        logger.warning("left out %s rows: %s (see rejects.jsonl)", f"{count:,}", reason)
    return rows


def write_blocks(
    data: Loaded[TextRecord], tokenizer: PreTrainedTokenizerBase, block_size: int, folder: Path
) -> None:
    """Write the documents of both parts as blocks."""
    cutters = {part: BlockCutter(block_size) for part in PARTS.values()}
    with open_writers(data, folder) as writers:

        def write(part: int, rows: list[Row]) -> None:
            writer, tokens = writers[part]
            for row in rows:
                num_kept = len(row["input_ids"])
                writer.add(row)
                tokens.update(kept=num_kept, supervised=num_kept - len(row["seq_lengths"]))

        texts = (([r.text for r in b.records], b.places) for b in batches_of(data.records()))
        for documents, places in tokenize_batches(texts, tokenizer):
            for place, document in zip(places, documents, strict=True):
                part = int(data.part_of[place])
                writers[part][1]["read"] += len(document)
                write(part, cutters[part].add(document))
        for part, cutter in cutters.items():
            write(part, cutter.rest())
    write_facts(folder, data.ledger(), data.rejects, [])


def write_conversations(
    data: Loaded[Conversation], renderer: ChatRenderer, max_length: int | None, folder: Path
) -> None:
    """Write the conversations of both parts as ids and labels."""

    def cut(rendered: Rendered, tokens: Counter[str]) -> Row | None:
        kept = cut_conversation(rendered, max_length, tokens)
        return None if kept is None else vars(kept)

    write_rendered(data, BatchRenderer(renderer).conversations, cut, max_length, folder)
    write_facts(folder, data.ledger(), data.rejects, sorted(renderer.turn_ends))


def write_pairs(
    data: Loaded[PreferencePair], renderer: ChatRenderer, max_length: int | None, folder: Path
) -> None:
    """Write the pairs of both parts as the ids of prompt and answers."""

    def cut(pair: PairIds, tokens: Counter[str]) -> Row | None:
        return cut_pair(pair, max_length, tokens)

    write_rendered(data, BatchRenderer(renderer).pairs, cut, max_length, folder)
    write_facts(folder, data.ledger(), data.rejects, sorted(renderer.turn_ends))


def write_rendered(
    data: Loaded[RecordT],
    render: Callable[[Iterable[Batch[RecordT]]], Iterator[tuple[Batch[RecordT], list[ItemT]]]],
    cut: Callable[[ItemT, Counter[str]], Row | None],
    max_length: int | None,
    folder: Path,
) -> None:
    """Render and cut both parts; a record without room for an answer is moved to the rejects.

    Raises DataError if nothing is left to learn from or to validate on.
    """
    num_records = {name: int((data.part_of == part).sum()) for name, part in PARTS.items()}
    message = f"the prompt leaves no room for its answers in {max_length} tokens."
    with open_writers(data, folder) as writers:
        for batch, items in render(batches_of(data.records())):
            for place, record, item in zip(batch.places, batch.records, items, strict=True):
                writer, tokens = writers[int(data.part_of[place])]
                row = cut(item, tokens)
                if row is None:
                    data.rejects.append(Reject(record.source, NO_ROOM, message))
                    data.part_of[place] = UNUSED
                else:
                    writer.add(row)
    for name, num_rows in data.num_rows.items():
        if not num_rows:
            raise DataError(
                f"{name}: expected rows with a supervised token, found none in "
                f"{num_records[name]:,} rows; raise --max_length (now {max_length})."
            )


@contextmanager
def open_writers(data: Loaded[RecordT], folder: Path) -> Iterator[Writers]:
    """Give a writer and a token count for each part; what they count is entered into `data`."""
    with ExitStack() as stack:
        writers = {}
        for name, part in PARTS.items():
            writer = stack.enter_context(RowWriter(folder / f"{name}.arrow"))
            tokens = Counter(read=0, kept=0, truncated=0, truncated_rows=0, supervised=0)
            writers[part] = writer, tokens
            data.tokens[name] = tokens
        yield writers
    for name, part in PARTS.items():
        data.num_rows[name] = writers[part][0].num_rows
