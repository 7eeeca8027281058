"""The core of every chat: messages in, text out piece by piece.

The prompt's ids are those of training (ChatRenderer). An answer depends on the messages and options
alone: what is kept between two answers, keys and values, only saves work.
"""

from bisect import bisect_left
from collections.abc import Sequence

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medtune.arguments import SamplingArguments
from medtune.chat.answer import Answer
from medtune.chat.engine import Engine, Job
from medtune.chat.variants import Variant, variant_of
from medtune.common.errors import ConfigError, DataError, QuestionTooLong
from medtune.data.records import Message
from medtune.data.rendering import ChatRenderer
from medtune.models.families import family_of, stop_token_ids
from medtune.models.generation import stop_ids_of
from medtune.safety.red_flags import advice_for


class ChatSession:
    """A model that conversations are held with; any number at a time, for it remembers none."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel | Variant,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Take a loaded model, with or without an adapter (LoRA or prefix).

        max_length: tokens of prompt and answer together; default: what the model's config says.
        engine: what computes; shared by sessions, it answers all of them in one batch.
        Raises DataError (no chat template) and ConfigError (no room in the context).
        """
        self.variant = model if isinstance(model, Variant) else variant_of(model)
        self.tokenizer = tokenizer
        self.engine = engine or Engine()
        self.renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
        ends = stop_ids_of(self.variant.base.model)
        self.stop_ids = frozenset([*stop_token_ids(tokenizer, set()), *ends])
        self.context_length = find_context_length(self.variant, max_length)

    def ask(self, messages: Sequence[Message], options: SamplingArguments) -> Answer:
        """Return the answer to messages whose last one is the user's; it comes as it is read.

        The turns that the context has no room for are left out, oldest first, never the system
        message. May be called from any thread.
        Raises DataError: the last question alone is too long, or is no text.   QueueFull.
        """
        check_messages(messages)
        ids, num_left_out = self._fit(messages, options.max_new_tokens)
        answer = Answer(ids, num_left_out, advice_for(messages[-1].content))
        room = self.context_length - len(answer.prompt_ids)
        self.engine.submit(Job(answer, self.variant, options, self.tokenizer, self.stop_ids, room))
        return answer

    def forget(self) -> None:
        """Free what is kept between two answers."""
        self.engine.forget()

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

        found, ids = 0, prompt(0)
        if len(ids) > room:  # leaving out more never makes the prompt longer
            last = len(starts) - 1
            found = bisect_left(range(last), True, lo=1, key=lambda n: len(prompt(n)) <= room)
            found = min(found, last)
            ids = prompt(found)
        if len(ids) >= self.context_length:
            raise QuestionTooLong(
                f"the question is too long: expected less than {self.context_length:,} tokens with "
                f"the system message, found {len(ids):,}; make it shorter."
            )
        return ids, found


def find_context_length(variant: Variant, max_length: int | None) -> int:
    """Return how many tokens prompt and answer may have together, without virtual ones.

    Raises ConfigError: not known, less than asked for, or taken by the prefix.
    """
    longest = getattr(variant.base.model.config, "max_position_embeddings", None)
    if longest is None and max_length is None:
        raise ConfigError(
            "--max_length: expected a number of tokens, because the model's config.json names "
            "none (max_position_embeddings), found none."
        )
    if longest is not None and max_length is not None and max_length > longest:
        raise ConfigError(
            f"--max_length: expected at most the model's {longest:,} tokens, found {max_length:,}."
        )
    length = (max_length or longest or 0) - variant.num_virtual_tokens
    if length < 2:
        raise ConfigError(
            f"--max_length: expected more than the adapter's {variant.num_virtual_tokens:,} "
            f"virtual tokens and a question, found {max_length or longest:,}."
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
