"""The one place where messages become token ids and where labels are masked.

Training, evaluation and chat all render here, so their ids are the same by construction. The chat
template of the tokenizer decides the text. Its control tokens are encoded as such; everything that
a person wrote is encoded as plain text, so that "<|user|>" inside a question stays seven letters
and four signs. What the assistant said is supervised, and the token that ends its turn with it;
all else is masked with IGNORE_INDEX.

GLM-4, one turn (S = supervised):

    [gMASK] <sop> <|user|> \\n 头 痛 <|assistant|> \\n 多 休 息 <|user|>
                                                  S  S  S  S    S
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from transformers import PreTrainedTokenizerBase

from medtune.common.errors import DataError
from medtune.data.encoding import PlainEncoder
from medtune.data.records import Conversation, Message, PreferencePair, Source
from medtune.data.templates import ChatTemplate

IGNORE_INDEX = -100  # the value that torch's cross entropy leaves out
PairIds = tuple[list[int], list[int], list[int]]  # prompt_ids, chosen_ids, rejected_ids


@dataclass
class Rendered:
    """Token ids of one conversation and, for each, its label (IGNORE_INDEX = not supervised)."""

    input_ids: list[int]
    labels: list[int]

    @property
    def num_supervised(self) -> int:
        """Count of tokens that carry loss."""
        return len(self.labels) - self.labels.count(IGNORE_INDEX)


@dataclass
class ChatRenderer:
    """Renders messages with a tokenizer's chat template.

    turn_end: the token that ends a reply where the template writes none (GLM-4: `<|user|>`, which
    opens the next turn); None if the template closes the turn itself.
    Raises DataError where the template is missing, fails, or rewrites what was said.
    """

    tokenizer: PreTrainedTokenizerBase
    turn_end: str | None = None
    encoder: PlainEncoder = field(init=False, repr=False)
    template: ChatTemplate = field(init=False, repr=False)
    turn_ends: set[int] = field(default_factory=set, init=False)  # control ids seen in replies

    def __post_init__(self) -> None:
        """Refuse a tokenizer without a chat template."""
        self.encoder = PlainEncoder(self.tokenizer)
        self.template = ChatTemplate(self.tokenizer, self.encoder)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids that ask for a reply to `messages` (chat and generation use these)."""
        return self._encode(messages, for_reply=True)

    def conversation(self, record: Conversation) -> Rendered:
        """Return ids and labels of a conversation; every assistant turn is supervised.

        The span of a reply is what the ids of the rendered prefix that ends with it have beyond the
        ids of the prompt that asked for it. Raises DataError if a prefix is not a prefix.
        """
        messages = record.messages
        input_ids = self._encode(messages, for_reply=False)
        spans = [
            (
                self._prefix_length(messages[:number], True, input_ids, record.source),
                self._prefix_length(messages[: number + 1], False, input_ids, record.source),
            )
            for number, message in enumerate(messages)
            if message.role == "assistant"
        ]
        return self.supervise(input_ids, spans, record.source)

    def supervise(
        self, input_ids: list[int], spans: Sequence[tuple[int, int]], source: Source
    ) -> Rendered:
        """Return ids and labels for replies at these spans, each with the token that ends it.

        What follows the last reply teaches nothing and is left out. Changes `input_ids`.
        """
        labels = [IGNORE_INDEX] * len(input_ids)
        end = 0
        for start, end in spans:
            if self.turn_end is not None:
                turn_end_id = self.encoder.controls[self.turn_end]
                if end == len(input_ids):
                    input_ids.append(turn_end_id)
                    labels.append(IGNORE_INDEX)
                if input_ids[end] not in self.encoder.control_ids:
                    # ChatGLM2 goes on in plain text here. The reply is to end all the same: what is
                    # to be said at this place is not what comes next.
                    labels[start : end + 1] = [*input_ids[start:end], turn_end_id]
                    end += 1
                    continue
                end += input_ids[end] == turn_end_id
            reply = input_ids[start:end]
            end = start + self._turn_length(reply, source)
            labels[start:end] = reply[: end - start]
        del input_ids[end:], labels[end:]
        return Rendered(input_ids, labels)

    def pair(self, record: PreferencePair) -> PairIds:
        """Return prompt_ids, chosen_ids and rejected_ids; both answers end with the turn's end."""
        prompt_ids = self.prompt_ids(record.prompt)
        chosen_ids, rejected_ids = (
            self.answer_ids(record.prompt, prompt_ids, answer, record.source)
            for answer in (record.chosen, record.rejected)
        )
        return prompt_ids, chosen_ids, rejected_ids

    def answer_ids(
        self, prompt: Sequence[Message], prompt_ids: list[int], answer: str, source: Source
    ) -> list[int]:
        """Return the ids that an answer has after its prompt, with the token that ends its turn.

        prompt_ids: those of the prompt, which may have many answers.   Raises DataError if they are
        no prefix of prompt and answer.
        """
        whole = self._encode((*prompt, Message("assistant", answer)), for_reply=False)
        if whole[: len(prompt_ids)] != prompt_ids:
            raise prefix_error(source)
        rendered = self.supervise(whole, [(len(prompt_ids), len(whole))], source)
        return rendered.input_ids[len(prompt_ids) :]

    def _prefix_length(
        self, messages: Sequence[Message], for_reply: bool, whole: list[int], source: Source
    ) -> int:
        ids = self._encode(messages, for_reply)
        if whole[: len(ids)] != ids:
            raise prefix_error(source)
        return len(ids)

    def _turn_length(self, reply: list[int], source: Source) -> int:
        """Return the length of a reply up to its last control token, which is remembered.

        Raises DataError if there is none: such a reply could not teach the model to stop.
        """
        for length in range(len(reply), 0, -1):
            if reply[length - 1] in self.encoder.control_ids:
                self.turn_ends.add(reply[length - 1])
                return length
        raise DataError(
            f"{source}: the chat template of {self.tokenizer.name_or_path} writes no end token "
            "after a reply, so the model could never learn to stop; add one to the template."
        )

    def _encode(self, messages: Sequence[Message], for_reply: bool) -> list[int]:
        """Return ids: control tokens where the template wrote them, plain text elsewhere."""
        skeleton, contents = self.template.take_apart(messages, for_reply)
        ids: list[int] = []
        for run in skeleton.runs:
            ids += self.encoder.ids(run.text(contents))
            if run.control is not None:
                ids.append(run.control)
        return ids


def prefix_error(source: Source) -> DataError:
    """Return the error for a chat template whose prefixes do not render alike."""
    return DataError(
        f"{source}: expected the rendered prompt to be a prefix of the conversation, found "
        "other token ids: with this chat template training and chat would see different prompts."
    )


def render_conversation(
    renderer: ChatRenderer,
    record: Conversation,
    max_length: int | None,
    tokens: Counter[str] | None = None,
) -> Rendered | None:
    """Render a conversation and cut it, see cut_conversation."""
    return cut_conversation(renderer.conversation(record), max_length, tokens)


def cut_conversation(
    rendered: Rendered, max_length: int | None, tokens: Counter[str] | None = None
) -> Rendered | None:
    """Cut to `max_length` tokens; None if no supervised token is left.

    A cut falls inside an answer, which then has no end token, or is moved back to the end of the
    last answer: a header or question with nothing to learn after it is not kept.
    `tokens` counts read = kept + truncated, and supervised.
    """
    num_read = len(rendered.input_ids)
    end = num_read if max_length is None else min(num_read, max_length)
    while end and rendered.labels[end - 1] == IGNORE_INDEX:
        end -= 1
    if end == 0:
        return None
    if end < num_read:
        rendered = Rendered(rendered.input_ids[:end], rendered.labels[:end])
    if tokens is not None:
        count_tokens(tokens, num_read, end, rendered.num_supervised)
    return rendered


def render_pair(
    renderer: ChatRenderer,
    record: PreferencePair,
    max_length: int | None,
    tokens: Counter[str] | None = None,
) -> dict[str, list[int]] | None:
    """Render a pair and cut it, see cut_pair."""
    return cut_pair(renderer.pair(record), max_length, tokens)


def cut_pair(
    pair: PairIds, max_length: int | None, tokens: Counter[str] | None = None
) -> dict[str, list[int]] | None:
    """Cut both answers so that prompt + answer has at most `max_length` tokens.

    None if the prompt leaves no room for two answers that still differ.   Keys are those that TRL's
    collator reads.
    """
    prompt_ids, chosen_ids, rejected_ids = pair
    room = None if max_length is None else max_length - len(prompt_ids)
    if room is not None and room < 1:
        return None
    kept_chosen, kept_rejected = chosen_ids[:room], rejected_ids[:room]
    if kept_chosen == kept_rejected:
        return None
    num_supervised = len(kept_chosen) + len(kept_rejected)
    if tokens is not None:
        num_read = len(prompt_ids) + len(chosen_ids) + len(rejected_ids)
        count_tokens(tokens, num_read, len(prompt_ids) + num_supervised, num_supervised)
    return {"prompt_ids": prompt_ids, "chosen_ids": kept_chosen, "rejected_ids": kept_rejected}


def count_tokens(tokens: Counter[str], num_read: int, num_kept: int, num_supervised: int) -> None:
    """Enter one row into the token ledger."""
    tokens["read"] += num_read
    tokens["kept"] += num_kept
    tokens["truncated"] += num_read - num_kept
    tokens["supervised"] += num_supervised
    tokens["truncated_rows"] += int(num_kept < num_read)


def supervised_spans(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, list[int]]
) -> list[tuple[str, bool]]:
    """Return a training row as decoded (text, is_supervised) spans, to show what is learnt.

    A preference pair is shown as its prompt and its chosen answer.
    """
    if "prompt_ids" in row:
        ids = row["prompt_ids"] + row["chosen_ids"]
        supervised = [False] * len(row["prompt_ids"]) + [True] * len(row["chosen_ids"])
    else:
        ids = row["input_ids"]
        supervised = [label != IGNORE_INDEX for label in row["labels"]]
    pairs = zip(supervised, ids, strict=True)
    return [
        (tokenizer.decode([token for _, token in group]), is_supervised)
        for is_supervised, group in groupby(pairs, key=itemgetter(0))
    ]
