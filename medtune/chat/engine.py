"""Many answers at a time: each step reads the new tokens of all of them in one forward.

    waiting -> running -> kept

A question takes over a kept text that begins like it, so that a second turn reads only what is new.
A step belongs to one variant; variants that have answers running take turns. A prompt is read in
portions beside the others' tokens, so that a long one holds nobody up.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Condition, Event, Thread

import psutil
import torch
from transformers import PreTrainedTokenizerBase

from medtune.arguments import SamplingArguments
from medtune.chat.answer import CANCEL, CONTEXT, ERROR, LENGTH, REPETITION, STOP, Answer
from medtune.chat.choosing import TokenChooser
from medtune.chat.kept_text import KeptText
from medtune.chat.repetition import is_loop
from medtune.chat.text_stream import TextStream
from medtune.chat.variants import Variant
from medtune.common.errors import MedtuneError, MemoryExhausted, NonFiniteError, QueueFull
from medtune.common.log import logger

PORTION_TOKENS = 512  # of prompts in a step
MAX_RUNNING = 8  # answers that come at one time
MAX_KEPT = 16  # texts whose next turn may come
LOOKED_AT_EVERY = 16  # tokens: how often an answer is searched for a loop


@dataclass(eq=False)
class Job:
    """A question on its way through the engine.

    room: tokens that the answer may have, by the context.   unread: ids that are to be read next.
    """

    answer: Answer
    variant: Variant
    options: SamplingArguments
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    room: int
    text: KeptText = field(init=False)
    unread: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Begin the answer's text."""
        self.stream = TextStream(self.tokenizer)
        self.choose = TokenChooser(self.options, self.variant.base.model.device)

    def add(self, logits: torch.Tensor) -> None:
        """Choose the token after what was read, (1, vocabulary), and end the answer if it ends."""
        answer = self.answer
        try:
            token = self.choose(answer.prompt_ids, answer.ids, logits)
        except NonFiniteError as error:
            return self.finish(ERROR, error)
        answer.ids.append(token)
        if token in self.stop_ids:
            return self.finish(STOP)
        answer.grow(self.stream.add(token))
        self.unread = [token]
        num_tokens = len(answer.ids)
        if num_tokens >= self.options.max_new_tokens:
            self.finish(LENGTH)
        elif num_tokens >= self.room:
            self.finish(CONTEXT)
        elif num_tokens % LOOKED_AT_EVERY == 0 and is_loop(answer.ids):
            self.finish(REPETITION)

    def finish(self, ended_by: str, error: MedtuneError | None = None) -> None:
        """Say the characters that waited, and how it ended."""
        self.answer.grow(self.stream.finish())
        self.answer.end(ended_by, error)


class Engine:
    """Computes answers in the thread that reads them, or in a thread of its own (`start`)."""

    def __init__(self, max_waiting: int | None = None) -> None:
        """max_waiting: questions that may wait for a place; None for any number."""
        self.max_waiting = max_waiting
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._kept: list[tuple[Variant, KeptText]] = []  # the latest last
        self._last: Variant | None = None
        self._changed = Condition()
        self._thread: Thread | None = None

    # -- from any thread

    def submit(self, job: Job) -> None:
        """Let an answer come, and give it its `pieces`.   Raises QueueFull."""
        with self._changed:
            if self.max_waiting is not None and len(self._waiting) >= self.max_waiting:
                raise QueueFull(
                    f"expected at most {self.max_waiting:,} questions to wait, found as many "
                    "already; ask again in a while."
                )
            self._waiting.append(job)
            self._changed.notify_all()
        job.answer.pieces = self._pieces(job.answer)

    def start(self) -> None:
        """Compute in a thread of its own from now on; it ends with the program."""
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """Free what is kept between two answers."""
        with self._changed:
            self._kept.clear()

    # -- in the thread that computes

    def step(self) -> None:
        """Read one more portion of one variant's texts; nothing if no answer is asked for."""
        with self._changed:
            self._admit()
            jobs = self._next_jobs()
        if not jobs:
            return
        shares = share_out(jobs)
        texts = [job.text for job, _ in shares]
        try:
            logits = jobs[0].variant.read(texts, [portion for _, portion in shares])
        except torch.OutOfMemoryError:
            return self._give_up(jobs, no_memory(sum(len(text.ids) for text in texts)))
        for row, (job, portion) in enumerate(shares):
            job.unread = job.unread[len(portion) :]
            if not job.unread and not job.answer.is_cancelled:
                job.add(logits[row : row + 1])  # ends by itself where it fails: others go on
        with self._changed:
            self._put_away()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._running):
                    self._changed.wait()
            try:
                self.step()
            except Exception as error:  # of a library: this thread must live on for the others
                logger.exception("the model failed")
                self._give_up(list(self._running), MedtuneError(f"the model failed: {error}"))

    def _pieces(self, answer: Answer) -> Iterator[str]:
        """Yield the text as it grows; who stops reading cancels it."""
        num_read = 0
        has_changed = Event()
        answer.listen(has_changed.set)
        try:
            while True:
                is_over = bool(answer.ended_by)
                piece = answer.text[num_read:]
                num_read += len(piece)
                if piece:
                    yield piece
                elif is_over:
                    break
                elif self._thread is None:
                    self.step()
                else:
                    has_changed.wait()
                    has_changed.clear()
            if answer.error is not None:
                raise answer.error
        finally:
            answer.cancel()

    def _admit(self) -> None:
        """Give waiting questions their places, and those that nobody wants any more none."""
        for job in [job for job in self._waiting if job.answer.is_cancelled]:
            self._waiting.remove(job)
            job.answer.end(CANCEL)
        self._put_away()
        while self._waiting and len(self._running) < MAX_RUNNING:
            job = self._waiting.popleft()
            ids = job.answer.prompt_ids
            try:
                job.text = self._take_text(job.variant, ids)
            except torch.OutOfMemoryError:
                self._kept.clear()
                job.finish(ERROR, no_memory(len(ids)))
                continue
            job.unread = ids[len(job.text.ids) :]
            self._running.append(job)

    def _take_text(self, variant: Variant, ids: Sequence[int]) -> KeptText:
        """Return what is kept of the text that begins most like `ids`; or a new one.

        A conversation that goes on takes its own text. Another one that begins alike, as with the
        same system message, gets a copy of the beginning.
        """
        found = [one for one in self._kept if one[0] is variant]
        best = max(found, key=lambda one: one[1].num_shared(ids), default=None)
        num_shared = best[1].num_shared(ids) if best else 0
        if best is None or not num_shared:
            return variant.new_text()
        text = best[1]
        if 2 * num_shared < len(text.ids):
            return text.beginning(num_shared)
        self._kept.remove(best)
        del text.ids[num_shared:]
        return text

    def _next_jobs(self) -> list[Job]:
        """Return the running jobs of the variant whose turn it is."""
        variants = list(dict.fromkeys(job.variant for job in self._running))
        if not variants:
            return []
        last = variants.index(self._last) if self._last in variants else -1
        self._last = variants[(last + 1) % len(variants)]
        return [job for job in self._running if job.variant is self._last]

    def _put_away(self) -> None:
        """Keep the texts of answers that are over, the oldest no longer than there is room."""
        for job in self._running:
            if job.answer.is_cancelled and not job.answer.ended_by:
                job.finish(CANCEL)
        over = [job for job in self._running if job.answer.ended_by]
        if not over:
            return
        self._running = [job for job in self._running if not job.answer.ended_by]
        self._kept += [(job.variant, job.text) for job in over]
        while len(self._kept) > MAX_KEPT or self._num_kept_bytes() > self._max_kept_bytes:
            if len(self._kept) == 1:  # the conversation that goes on, be it long
                break
            self._kept.pop(0)

    def _num_kept_bytes(self) -> int:
        return sum(text.num_bytes for _, text in self._kept)

    @cached_property
    def _max_kept_bytes(self) -> int:
        """A quarter of what is free when the first answer is over: beside the models' weights."""
        return free_bytes() // 4

    def _give_up(self, jobs: Sequence[Job], error: MedtuneError) -> None:
        """End these answers with an error, and free all that is kept."""
        self.forget()
        for job in jobs:
            self._running.remove(job)
            if not job.answer.ended_by:
                job.finish(ERROR, error)


def no_memory(num_tokens: int) -> MemoryExhausted:
    """Return the error that says so."""
    return MemoryExhausted(
        f"no memory left after {num_tokens:,} tokens of conversation: start anew, or give a "
        "smaller --max_length."
    )


def share_out(jobs: Sequence[Job]) -> list[tuple[Job, list[int]]]:
    """Return who reads which ids in a step: each answer its last token, prompts what room is left.

    A job that gets nothing this time is left out.
    """
    room = PORTION_TOKENS
    shares = []
    for job in sorted(jobs, key=lambda job: len(job.unread) > 1):  # stable: prompts as they came
        if portion := job.unread[:room]:
            shares.append((job, portion))
            room -= len(portion)
    return shares


def free_bytes() -> int:
    """Return what is free where models compute."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available
