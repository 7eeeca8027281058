"""What the model answers at each evaluation: a few fixed questions, and the validation prompts.

Greedy, after the evaluation of the rows and inside of it: no random number of training is drawn.
The batches are shared out over the processes; each scores what it has generated.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from medtune.arguments import RunArguments
from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.data.questions import Question, last_answers, prompt_of, read_questions
from medtune.data.rendering import ChatRenderer
from medtune.data.rows import Rows
from medtune.models.families import family_of
from medtune.models.generation import Reply, batch_prompts, generate_batch

Scorer = Callable[[str, str], dict[str, float]]  # (prediction, reference) -> scores by name
SECONDS = "eval_generation_seconds"


@dataclass(frozen=True)
class Sample:
    """What the model answered to a fixed question; `stopped`: it ended its reply by itself."""

    question: str
    reply: str
    stopped: bool


@dataclass(frozen=True)
class Asked:
    """Which questions a run asks, and what compares a reply with a reference, if anything does."""

    questions: Sequence[Question] = ()
    scorer: Scorer | None = None


def read_asked(stage: str, options: RunArguments, scorer: Scorer | None) -> Asked:
    """Return what the options ask for, read before anything else is done.

    scorer: None for a stage whose data hold no replies.
    Raises DataError for a file that holds no questions, ConfigError where nothing can be compared.
    """
    if options.predict_with_generate and scorer is None:
        raise ConfigError(
            f"--predict_with_generate: expected a stage whose data hold replies, found {stage}: "
            "there is nothing to compare with. --sample_prompts shows what the model answers."
        )
    path = options.sample_prompts
    questions = read_questions(Path(path)) if path is not None else []
    return Asked(questions, scorer if options.predict_with_generate else None)


class EvaluationReplies:
    """Asks a trainer's model after each evaluation, see `answer`.

    stop_ids: what ends a reply; None for what the model's own configuration says.
    listeners: are given the step and the samples on every process.
    """

    def __init__(self, trainer: Any, max_new_tokens: int, stop_ids: Sequence[int] | None) -> None:
        """Ask nothing yet."""
        self.trainer = trainer
        self.max_new_tokens = max_new_tokens
        self.stop_ids = stop_ids
        self.questions: list[str] = []
        self.references: list[str] = []
        self.prompts: list[list[int]] = []  # of the questions, then of the references
        self.scorer: Scorer | None = None
        self.listeners: list[Callable[[int, list[Sample]], None]] = []

    def ask(self, questions: Sequence[Question], renderer: ChatRenderer) -> None:
        """Ask these questions, before what is compared. Raises DataError with their place."""
        self.prompts[:0] = [prompt_of(question, renderer) for question in questions]
        self.questions = [question.text for question in questions]

    def compare(self, rows: Rows, limit: int, renderer: ChatRenderer, scorer: Scorer) -> None:
        """Compare replies with the last answers of the first `limit` validation rows.

        Raises ConfigError if no validation row has a whole answer.
        """
        answers, num_cut = last_answers(rows.validation, limit, renderer)
        if not answers:
            raise ConfigError(
                f"--predict_with_generate: expected validation rows with a whole answer, found "
                f"{num_cut:,} whose answer is cut; raise --max_length."
            )
        if num_cut:
            logger.info("predict_with_generate: %s rows with a cut answer left out", f"{num_cut:,}")
        self.prompts += [answer.prompt_ids for answer in answers]
        self.references = [answer.reference for answer in answers]
        self.scorer = scorer

    def answer(self) -> dict[str, float]:
        """Answer all prompts, pass the samples on, and return scores and seconds as metrics.

        A score is the mean over the validation prompts. Call it on every process, with the model in
        evaluation mode.
        """
        started = time.monotonic()
        answered = self._generate()
        num_questions = len(self.questions)
        replies = [answered[number][0] for number in range(len(self.prompts))]
        samples = [
            Sample(question, reply.text, reply.stopped)
            for question, reply in zip(self.questions, replies[:num_questions], strict=True)
        ]
        for listener in self.listeners if samples else ():
            listener(self.trainer.state.global_step, samples)
        scores = [answered[number][1] for number in range(num_questions, len(self.prompts))]
        names = scores[0] if scores else {}
        means = {f"eval_{name}": sum(s[name] for s in scores) / len(scores) for name in names}
        return {**means, SECONDS: round(time.monotonic() - started, 3)}

    def _generate(self) -> dict[int, tuple[Reply, dict[str, float]]]:
        """Return reply and scores of each prompt by its number, gathered from all processes."""
        trainer = self.trainer
        batches = batch_prompts(self.prompts)
        rank, world = trainer.args.process_index, trainer.args.world_size
        own: dict[int, tuple[Reply, dict[str, float]]] = {}
        for first in range(0, len(batches), world):
            is_spare = first + rank >= len(batches)
            if is_spare and not is_deepspeed_zero3_enabled():
                break
            # Under ZeRO-3 each process holds a part of every weight: all of them have to take part.
            numbers = batches[first if is_spare else first + rank]
            with trainer.compute_loss_context_manager():
                replies = generate_batch(
                    trainer.model,
                    trainer.processing_class,
                    [self.prompts[number] for number in numbers],
                    self.max_new_tokens,
                    self.stop_ids,
                )
            trainer.callback_handler.on_prediction_step(
                trainer.args, trainer.state, trainer.control
            )
            if not is_spare:
                own.update(
                    (n, (r, self._score(n, r))) for n, r in zip(numbers, replies, strict=True)
                )
        return dict(gather_object(list(own.items())))

    def _score(self, number: int, reply: Reply) -> dict[str, float]:
        place = number - len(self.questions)
        return (
            {}
            if place < 0 or self.scorer is None
            else self.scorer(reply.text, self.references[place])
        )


def build_replies(
    asked: Asked, options: RunArguments, trainer: Any, rows: Rows, stop_ids: Sequence[int] | None
) -> EvaluationReplies | None:
    """Return what asks the trainer's model, None if nothing is asked.

    Raises ConfigError and DataError: no chat template, a template that refuses a question, no
    whole answer to compare with, FSDP.
    """
    if not asked.questions and asked.scorer is None:
        return None
    name = "--sample_prompts" if asked.questions else "--predict_with_generate"
    if trainer.is_fsdp_enabled:
        raise ConfigError(
            f"{name}: expected whole weights or DeepSpeed's, found --fsdp, under which a model "
            "cannot generate; leave one of them out."
        )
    replies = EvaluationReplies(trainer, options.sample_max_new_tokens, stop_ids)
    renderer = renderer_of(trainer.processing_class, name)
    if asked.scorer is not None:
        replies.compare(rows, options.num_predict_samples, renderer, asked.scorer)
    replies.ask(asked.questions, renderer)
    logger.info(
        "at each evaluation: %s questions and %s validation prompts are answered",
        f"{len(replies.questions):,}",
        f"{len(replies.references):,}",
    )
    return replies


def renderer_of(tokenizer: PreTrainedTokenizerBase, option: str) -> ChatRenderer:
    """Return the renderer of a chat model's prompts. Raises ConfigError without a chat template."""
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{option}: expected a tokenizer with a chat template, found none in "
            f"{tokenizer.name_or_path}; leave the option out, or take the model's chat version."
        )
    return ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
