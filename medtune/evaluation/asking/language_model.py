"""A model as lm-eval asks it: log-likelihoods of given answers, and generated ones.

lm-eval speaks in strings, and its own model class encodes strings: a "<|user|>" that somebody wrote
into a question would become a control token. Here a chat prompt travels as the JSON of its messages
and is rendered by ChatRenderer, so that its ids are those of training and chat.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any
from zlib import crc32

import torch
from accelerate import PartialState
from accelerate.utils import gather, gather_object
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medtune.data.encoding import PlainEncoder
from medtune.data.records import Message, Source
from medtune.data.rendering import ChatRenderer
from medtune.evaluation.asking.answers import GeneratedText, ScoredText
from medtune.evaluation.asking.likelihoods import (
    LogLikelihood,
    Scored,
    log_likelihoods,
    one_by_one,
    pack,
    packs_exactly,
)
from medtune.evaluation.asking.progress import with_progress
from medtune.evaluation.asking.responses import Responses
from medtune.models.generation import batch_prompts, generate_batch

CHAT = "\ue003"  # private use: what follows is the JSON of messages
END_OF_TURN = "\ue002"  # private use: an answer that ends with it includes the end of the turn
NO_SOURCE = Source("evaluation", 0)


@dataclass(frozen=True)
class Limits:
    """How much goes through the model at once, in tokens.

    max_length: longest prompt with its answer; a longer prompt loses its beginning and is counted.
    per_batch: in a row of prompts and answers.   stride: how far the window over a long text moves;
    max_length for windows that do not overlap.   seed: of replies that are drawn.
    """

    max_length: int
    per_batch: int
    stride: int
    seed: int = 0


class ChatModel(LM):
    """A causal model with its chat renderer, to lm-eval."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        renderer: ChatRenderer | None,
        limits: Limits,
    ) -> None:
        """Take a loaded model in eval mode; without a renderer prompts are plain text."""
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.renderer = renderer
        self.encoder = renderer.encoder if renderer else PlainEncoder(tokenizer)
        self.limits = limits
        self.packs = packs_exactly(model)
        self.responses = Responses()
        self.what = "requests"  # for the progress line
        self.num_truncated = 0
        self.num_tokens = 0
        self.seconds = 0.0
        state = PartialState()
        self._rank, self._world_size, self._device = (
            state.process_index, state.num_processes, model.device,
        )  # fmt: skip

    # -- what lm-eval asks

    def loglikelihood(self, requests: list[Instance]) -> list[LogLikelihood]:
        """Return the log-likelihood of each answer; those of one prompt are computed together."""
        arguments = [request.args for request in requests]
        missing = [a for a in dict.fromkeys(arguments) if not self._known("loglikelihood", a)]
        if missing:
            groups = [list(group) for _, group in groupby(missing, key=itemgetter(0))]
            asked = ((group, self.scored(group[0][0], [a for _, a in group])) for group in groups)
            batches = pack(asked, self.limits.per_batch, size=lambda pair: pair[1].num_tokens)
            for batch in with_progress(batches, len(groups), self.what):
                found = self._score([scored for _, scored in batch])
                self.responses.add(
                    "loglikelihood",
                    [
                        (request, [*value, len(ids)])
                        for (group, scored), values in zip(batch, found, strict=True)
                        for request, value, ids in zip(group, values, scored.answers, strict=True)
                    ],
                )
        known = (self.responses.find("loglikelihood", pair) for pair in arguments)
        return [(ScoredText.made_of(value, count), greedy) for value, greedy, count in known]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Return the log-likelihood of each whole text, every token predicted once."""
        texts = [request.args for request in requests]
        missing = [text for text in dict.fromkeys(texts) if not self._known("rolling", text)]
        for (text,) in with_progress(([text] for text in missing), len(missing), self.what):
            windows = [Scored(list(p), [list(a)]) for p, a in self._windows(text[0])]
            found = [
                value
                for batch in pack(windows, self.limits.per_batch, size=attrgetter("num_tokens"))
                for value in self._score(batch)
            ]
            value = sum(scores[0][0] for scores in found)
            count = sum(len(window.answers[0]) for window in windows)
            self.responses.add("rolling", [(text, [value, count])])
        return [ScoredText.made_of(*self.responses.find("rolling", text)) for text in texts]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return a reply to each prompt; the options of a request are those of `generate_batch`."""
        arguments = [request.args for request in requests]
        missing = [a for a in unique(arguments) if not self._known("generate", a)]
        missing.sort(key=options_of)
        for _, group in groupby(missing, key=options_of):
            asked = [(pair, self.prompt_ids(pair[0])) for pair in group]
            batches = batch_prompts([ids for _, ids in asked])
            for batch in with_progress(batches, len(asked), self.what):
                pairs = [asked[number][0] for number in batch]
                replies = self._generate(pairs, [asked[number][1] for number in batch])
                self.responses.add("generate", list(zip(pairs, replies, strict=True)))
        known = (self.responses.find("generate", pair) for pair in arguments)
        return [GeneratedText.made_of(*value) for value in known]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt that stands for these messages; it is rendered where it is used."""
        assert add_generation_prompt, "no task of ours begins the reply for the model"
        return CHAT + json.dumps(chat_history, ensure_ascii=False)

    @property
    def tokenizer_name(self) -> str:
        """Name for lm-eval's own cache, which is not used."""
        return self.tokenizer.name_or_path

    # -- several processes

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensors of all processes, one after the other."""
        return gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Return the objects of all processes on process `dst`, None elsewhere."""
        everything = gather_object([obj])
        return everything if self._rank == dst else None

    def barrier(self) -> None:
        """Wait for all processes."""
        PartialState().wait_for_everyone()

    # -- ids

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return the ids of a chat prompt, or of plain text after an end of text."""
        if self.renderer and self._is_chat(prompt):
            return self.renderer.prompt_ids(messages_of(prompt))
        return [self.prefix_id, *self.encoder.ids(prompt)]

    def scored(self, prompt: str, answers: list[str]) -> Scored:
        """Return the ids of a prompt and of its answers, cut to what the model takes."""
        prompt_ids = self.prompt_ids(prompt)
        messages = messages_of(prompt) if self._is_chat(prompt) else None
        ids = [self.answer_ids(messages, prompt_ids, answer) for answer in answers]
        return self._fit(prompt_ids, ids)

    def answer_ids(
        self, messages: tuple[Message, ...] | None, prompt_ids: list[int], answer: str
    ) -> list[int]:
        """Return the ids that an answer has after its prompt; messages None: after plain text.

        After chat they are those of training: a token may reach over the border of header and text.
        """
        text = answer.removesuffix(END_OF_TURN)
        if messages is None or self.renderer is None:
            return list(self.encoder.ids(text))
        ids = self.renderer.answer_ids(messages, prompt_ids, text, NO_SOURCE)
        return ids if answer.endswith(END_OF_TURN) else ids[:-1]

    def _is_chat(self, prompt: str) -> bool:
        return self.renderer is not None and prompt.startswith(CHAT)

    @property
    def prefix_id(self) -> int:
        """The id before the first token of a text: books were cut into blocks with it between."""
        eos = self.tokenizer.eos_token_id
        return self.tokenizer.bos_token_id if eos is None else eos

    # -- the work

    def _known(self, kind: str, arguments: Sequence[Any]) -> bool:
        return self.responses.find(kind, arguments) is not None

    def _fit(self, prompt_ids: list[int], answers: list[list[int]]) -> Scored:
        """Return prompt and answers; if they are too long, the prompt without its beginning.

        An answer that does not fit even after one token of the prompt loses its end.
        """
        longest = self.limits.max_length - 1
        cut = [ids[:longest] for ids in answers]
        room = self.limits.max_length - max(map(len, cut))
        self.num_truncated += len(prompt_ids) > room or cut != answers
        return Scored(prompt_ids[-room:], cut)

    def _score(self, batch: list[Scored]) -> list[list[LogLikelihood]]:
        started = time.monotonic()
        score = log_likelihoods if self.packs else one_by_one
        found = score(self.model, batch)
        self.seconds += time.monotonic() - started
        self.num_tokens += sum(item.num_tokens for item in batch)
        return found

    def _windows(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        ids = list(self.encoder.ids(text))
        # lm-eval's windows: each token is predicted once, after at least context_len others.
        context = self.limits.max_length - self.limits.stride + 1
        windows = get_rolling_token_windows(ids, self.prefix_id, self.limits.max_length, context)
        return map(make_disjoint_window, windows)

    def _generate(
        self, pairs: list[tuple[str, dict[str, Any]]], prompts: list[list[int]]
    ) -> list[tuple[str, bool, int]]:
        options = dict(pairs[0][1])
        max_new_tokens = options.pop("max_gen_toks")
        options.pop("until", None)  # lm-eval's: a reply ends where its turn does
        room = self.limits.max_length - max_new_tokens
        self.num_truncated += sum(len(ids) > room for ids in prompts)
        if options.get("do_sample"):
            # Each batch by itself, so that an interrupted evaluation draws what it would have.
            torch.manual_seed(crc32(pairs[0][0].encode()) ^ self.limits.seed)
        started = time.monotonic()
        replies = generate_batch(
            self.model,
            self.tokenizer,
            [ids[-room:] for ids in prompts],
            max_new_tokens,
            **options,
        )
        self.seconds += time.monotonic() - started
        self.num_tokens += sum(reply.num_tokens for reply in replies)
        return [(reply.text, reply.stopped, reply.num_tokens) for reply in replies]


def messages_of(prompt: str) -> tuple[Message, ...]:
    """Return the messages that a chat prompt stands for."""
    rows = json.loads(prompt.removeprefix(CHAT))
    return tuple(Message(row["role"], row["content"]) for row in rows)


def unique(arguments: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the requests without repetitions, in order."""
    return list({json.dumps(pair, sort_keys=True): pair for pair in arguments}.values())


def options_of(pair: tuple[str, dict[str, Any]]) -> str:
    """Return the options of a request for a reply, so that they compare."""
    return json.dumps(pair[1], sort_keys=True)
