"""The core of every chat: messages in, text out piece by piece.

The prompt's ids are those of training (ChatRenderer). An answer depends on the messages and options
alone: what the session keeps between two answers, keys and values, only saves work.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from medtune.arguments import SamplingArguments
from medtune.chat.kept_cache import CachedModel
from medtune.chat.text_stream import TextStream
from medtune.common.errors import ConfigError, DataError
from medtune.data.records import Message
from medtune.data.rendering import ChatRenderer
from medtune.models.families import family_of, stop_token_ids
from medtune.models.generation import stop_ids_of

# How an answer ends: by itself, at --max_new_tokens, with the context full, by cancel().
STOP, LENGTH, CONTEXT, CANCEL = "stop", "length", "context", "cancel"
PORTION_TOKENS = 512  # of a prompt between two looks at whether the answer is still wanted


@dataclass
class Answer:
    """An answer as it comes: iterate over `pieces`; the rest is filled meanwhile.

    prompt_ids: what the model was asked.   num_left_out: turns at the beginning that the context
    had no room for.   ids: of the answer, with the one that ended it.   ended_by: STOP, LENGTH,
    CONTEXT or CANCEL; empty while the answer comes.
    """

    prompt_ids: list[int]
    num_left_out: int
    pieces: Iterator[str] = field(init=False, repr=False)
    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended_by: str = ""
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Let it end before the next token; may be called from a signal or another thread."""
        self.is_cancelled = True


class ChatSession:
    """One conversation at a time with a model."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
    ) -> None:
        """Take a loaded model, with or without an adapter (LoRA or prefix).

        max_length: tokens of prompt and answer together; default: what the model's config says.
        Raises DataError (no chat template) and ConfigError (no room in the context).
        """
        self.tokenizer = tokenizer
        self.renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
        self.model = CachedModel(model)
        self.stop_ids = {*stop_token_ids(tokenizer, set()), *stop_ids_of(model)}
        self.context_length = find_context_length(self.model, max_length)
        self._answer: Answer | None = None

    def ask(self, messages: Sequence[Message], options: SamplingArguments) -> Answer:
        """Return the answer to messages whose last one is the user's; it is computed as it is read.

        The turns that the context has no room for are left out, oldest first, never the system
        message. Another answer of this session that is still coming ends.
        Raises DataError: the last question alone is too long, or is no text.
        """
        check_messages(messages)
        if self._answer is not None:
            self._answer.cancel()
        answer = self._answer = Answer(*self._fit(messages, options.max_new_tokens))
        answer.pieces = self._pieces(answer, options)
        return answer

    def forget(self) -> None:
        """Free what is kept between two answers."""
        self.model.forget()

    def _fit(self, messages: Sequence[Message], max_new_tokens: int) -> tuple[list[int], int]:
        """Return the prompt's ids and how many turns they leave out.

        The answer gets its --max_new_tokens, but at most half of the context at the turns' expense.
        """
        body = [n for n, message in enumerate(messages) if message.role != "system"]
        starts = [body[0], *(n for n in body[1:] if messages[n].role == "user")]
        room = self.context_length - min(max_new_tokens, self.context_length // 2)

        def prompt(num_left_out: int) -> list[int]:
            kept = [*messages[: body[0]], *messages[starts[num_left_out] :]]
            return self.renderer.prompt_ids(kept)

        # Leaving out more never makes the prompt longer.
        last = len(starts) - 1
        found = bisect_left(range(last), True, key=lambda n: len(prompt(n)) <= room)
        ids = prompt(found)
        if len(ids) >= self.context_length:
            raise DataError(
                f"the question is too long: expected less than {self.context_length:,} tokens with "
                f"the system message, found {len(ids):,}; make it shorter."
            )
        return ids, found

    def _pieces(self, answer: Answer, options: SamplingArguments) -> Iterator[str]:
        stream = TextStream(self.tokenizer)
        for token in self._tokens(answer, options):
            if piece := stream.add(token):
                answer.text += piece
                yield piece
        if piece := stream.finish():
            answer.text += piece
            yield piece

    def _tokens(self, answer: Answer, options: SamplingArguments) -> Iterator[int]:
        """Yield the ids of the answer's text and say how it ended."""
        choose = TokenChooser(options, self.model.device)
        ids = list(answer.prompt_ids)
        room = self.context_length - len(ids)
        unread = self.model.rewind(ids)
        while True:
            for start in range(0, len(unread), PORTION_TOKENS):
                if answer.is_cancelled:
                    answer.ended_by = CANCEL
                    return
                logits = self.model.read(unread[start : start + PORTION_TOKENS])
            token = choose(ids, logits)
            ids.append(token)
            answer.ids.append(token)
            if token in self.stop_ids:
                answer.ended_by = STOP
                return
            yield token
            if len(answer.ids) >= min(room, options.max_new_tokens):
                answer.ended_by = LENGTH if len(answer.ids) >= options.max_new_tokens else CONTEXT
                return
            unread = [token]


class TokenChooser:
    """Chooses the next token as transformers' `generate` does with the same options."""

    def __init__(self, options: SamplingArguments, device: torch.device) -> None:
        """Seed the generator that this answer is drawn from."""
        self.is_greedy = options.temperature == 0
        self.has_penalty = options.repetition_penalty != 1
        self.generator = torch.Generator(device).manual_seed(options.seed)
        self.processors = LogitsProcessorList()
        if self.has_penalty:
            self.processors.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
        if self.is_greedy:
            return
        if options.temperature != 1:
            self.processors.append(TemperatureLogitsWarper(options.temperature))
        if options.top_k:
            self.processors.append(TopKLogitsWarper(options.top_k))
        if options.top_p < 1:
            self.processors.append(TopPLogitsWarper(options.top_p))

    def __call__(self, ids: Sequence[int], logits: torch.Tensor) -> int:
        """Return the token after `ids`, which are the prompt and what was answered so far."""
        seen = torch.tensor([list(ids) if self.has_penalty else []], device=logits.device)
        scores = self.processors(seen.long(), logits)
        if self.is_greedy:
            return int(scores.argmax(-1))
        drawn = torch.multinomial(scores.softmax(-1), 1, generator=self.generator)
        return int(drawn)


def find_context_length(model: CachedModel, max_length: int | None) -> int:
    """Return how many tokens prompt and answer may have together, without virtual ones.

    Raises ConfigError: not known, less than asked for, or taken by the prefix.
    """
    longest = getattr(model.base.config, "max_position_embeddings", None)
    if longest is None and max_length is None:
        raise ConfigError(
            "--max_length: expected a number of tokens, because the model's config.json names "
            "none (max_position_embeddings), found none."
        )
    if longest is not None and max_length is not None and max_length > longest:
        raise ConfigError(
            f"--max_length: expected at most the model's {longest:,} tokens, found {max_length:,}."
        )
    length = (max_length or longest or 0) - model.num_virtual_tokens
    if length < 2:
        raise ConfigError(
            f"--max_length: expected more than the adapter's {model.num_virtual_tokens:,} virtual "
            f"tokens and a question, found {max_length or longest:,}."
        )
    return length


def check_messages(messages: Sequence[Message]) -> None:
    """Raise DataError if the last message is not the user's, or one is no text."""
    if not messages or messages[-1].role != "user":
        found = messages[-1].role if messages else "no message"
        raise DataError(f"expected a question as the last message, found {found}.")
    for message in messages:
        try:
            message.content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"expected text in UTF-8, found half a character at place {error.start + 1} of the "
                f"{message.role}'s message; write it again."
            ) from error
