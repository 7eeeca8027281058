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
from medtune.common.log import logger
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
    _is_last_only_said: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a tokenizer without a chat template."""
        self.encoder = PlainEncoder(self.tokenizer)
        self.template = ChatTemplate(self.tokenizer, self.encoder)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids that ask for a reply to `messages` (chat and generation use these)."""
        return self._encode(messages, for_reply=True)

    def conversation(self, record: Conversation) -> Rendered:
        """Return ids and labels of a conversation; every reply is supervised that chat would ask
        for with just the ids that stand before it.

        The span of a reply is what the ids of the rendered prefix that ends with it have beyond the
        ids of the prompt that asked for it. Of a template that writes earlier replies in another
        way (Qwen3's) this holds for the last one alone. Raises DataError if not even for that.
        """
        messages = record.messages
        input_ids = self._encode(messages, for_reply=False)
        spans: list[tuple[int, int] | None] = []
        for number, message in enumerate(messages):
            if message.role == "assistant":
                start = self._prefix_length(messages[:number], True, input_ids)
                end = self._prefix_length(messages[: number + 1], False, input_ids)
                spans.append(None if start is None or end is None else (start, end))
        if spans[-1] is None:
            raise prefix_error(record.source)
        if None in spans:
            self._say_last_only("writes earlier replies otherwise than the last")
        return self.supervise(input_ids, [span for span in spans if span], record.source)

    def supervise(
        self, input_ids: list[int], spans: Sequence[tuple[int, int]], source: Source
    ) -> Rendered:
        """Return ids and labels for replies at these spans, each with the token that ends it.

        A reply without such a token is left out, but the last must have one. What follows the last
        reply teaches nothing and is cut off. Changes `input_ids`.
        """
        labels = [IGNORE_INDEX] * len(input_ids)
        end = 0
        for number, (start, end) in enumerate(spans, start=1):
            if self.turn_end is not None:
                turn_end_id = self.encoder.controls[self.turn_end]
                if end == len(input_ids):
                    input_ids.append(turn_end_id)
                    labels.append(IGNORE_INDEX)
                end += input_ids[end] == turn_end_id
            reply = input_ids[start:end]
            length = self._turn_length(reply)
            if not length and number < len(spans):
                self._say_last_only("writes no end token after earlier replies")
                continue
            if not length:
                raise self._endless(source)
            end = start + length
            labels[start:end] = reply[:length]
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
        self, messages: Sequence[Message], for_reply: bool, whole: list[int]
    ) -> int | None:
        """Return how many ids the messages have, None if `whole` does not begin with them."""
        ids = self._encode(messages, for_reply)
        return len(ids) if whole[: len(ids)] == ids else None

    def _turn_length(self, reply: list[int]) -> int:
        """Return the length of a reply up to its last control token, which is remembered; or 0."""
        for length in range(len(reply), 0, -1):
            if reply[length - 1] in self.encoder.control_ids:
                self.turn_ends.add(reply[length - 1])
                return length
        return 0

    def _endless(self, source: Source) -> DataError:
        return DataError(
            f"{source}: the chat template of {self.tokenizer.name_or_path} writes no end token "
            "after a reply, so the model could never learn to stop; add one to the template."
        )

    def _say_last_only(self, why: str) -> None:
        if not self._is_last_only_said:
            logger.warning(
                "%s: the chat template %s: of a conversation only the last reply is supervised",
                self.tokenizer.name_or_path,
                why,
            )
        self._is_last_only_said = True

    def _encode(self, messages: Sequence[Message], for_reply: bool) -> list[int]:
        """Return ids: control tokens where the template wrote them, plain text elsewhere.

        A token that would reach from a prompt into its reply is divided there, because chat asks
        with the prompt alone.
        """
        skeleton, contents = self.template.take_apart(messages, for_reply)
        heads = self.template.heads(tuple([message.role for message in messages]), for_reply)
        ids: list[int] = []
        for number, run in enumerate(skeleton.runs):
            text = run.text(contents)
            found = self.encoder.ids(text)
            if number in heads:
                head = heads[number].text(contents)
                of_head = self.encoder.ids(head)
                if found[: len(of_head)] != of_head:
                    found = of_head + self.encoder.ids(text[len(head) :])
            ids += found
            if run.control is not None:
                ids.append(run.control)
        return ids


def prefix_error(source: Source) -> DataError:
    """Return the error for a chat template whose prefixes do not render alike."""
    return DataError(
        f"{source}: expected the rendered prompt to be a prefix of the conversation, found "
        "other token ids: with this chat template training and chat would see different prompts."
    )


def reply_start(labels: Sequence[int]) -> int:
    """Return where the last supervised span begins. Example: [-100, 6, -100, 8] -> 3."""
    start = len(labels)
    while start and labels[start - 1] != IGNORE_INDEX:
        start -= 1
    return start


def cut_conversation(
    rendered: Rendered,
    max_length: int | None,
    tokens: Counter[str] | None = None,
    num_read: int | None = None,
) -> Rendered | None:
    """Cut to `max_length` tokens; None if no supervised token is left.

    A cut falls inside an answer, which then has no end token, or is moved back to the end of the
    last answer: a header or question with nothing to learn after it is not kept.
    `tokens` counts read = kept + truncated, and supervised.   num_read: if `rendered` is not whole.
    """
    length = len(rendered.input_ids)
    end = length if max_length is None else min(length, max_length)
    while end and rendered.labels[end - 1] == IGNORE_INDEX:
        end -= 1
    if end == 0:
        return None
    if end < length:
        rendered = Rendered(rendered.input_ids[:end], rendered.labels[:end])
    if tokens is not None:
        count_tokens(tokens, num_read or length, end, rendered.num_supervised)
    return rendered


def cut_pair(
    pair: PairIds,
    max_length: int | None,
    tokens: Counter[str] | None = None,
    num_read: int | None = None,
) -> dict[str, list[int]] | None:
    """Cut both answers so that prompt + answer has at most `max_length` tokens.

    None if the prompt leaves no room for two answers that still differ.   Keys are those that TRL's
    collator reads.   num_read: if `pair` is not whole.
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
        count_tokens(
            tokens,
            num_read or sum(map(len, pair)),
            len(prompt_ids) + num_supervised,
            num_supervised,
        )
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
