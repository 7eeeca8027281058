"""What the trainers share: rows that are ready, counts of tokens, what a step was made of."""

import time
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from medtune.arguments import SpeedArguments
from medtune.training.checkpoints.exactness import apply_changes, options_of_groups
from medtune.training.guards.batches import SeenBatch, find_rows
from medtune.training.replies import EvaluationReplies
from medtune.training.token_batches import token_budget_loader

Batch = dict[str, torch.Tensor]


class ReadyRows:
    """What both trainers share: no second preparation, a token count, what a step was made of."""

    tokens_seen: torch.Tensor | int = 0  # this process, padding left out
    speed: SpeedArguments
    step_batches: list[SeenBatch] | None = None  # of the present step, for who asks for them
    step_losses: list[torch.Tensor] | None = None  # their sum is the loss of the step
    seconds_before = 0.0  # of training, before this start
    started = 0.0  # time.monotonic()
    num_finite_steps = 0  # since the last log
    has_changed_options = False  # since the checkpoint that the run is continued from
    replies: EvaluationReplies | None = None  # asks the model at each evaluation

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and note when that began."""
        self.started = time.monotonic()
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate without touching the random numbers of training.

        A data loader draws one when it starts, and a run that is continued after an evaluation
        would drop out other units than one that evaluates in between.
        """
        device = self.args.device  # type: ignore[attr-defined]
        self.step_batches = self.step_batches and []  # of no step, should memory run out here
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate the rows, then what the model answers: one entry of the log has both."""
        output = super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]
        if self.replies is not None:
            output.metrics.update(self.replies.answer())
        return output

    def get_train_dataloader(self) -> DataLoader:
        """Return batches of rows or, with --tokens_per_batch, of tokens."""
        if self.speed.tokens_per_batch is None:
            return super().get_train_dataloader()  # type: ignore[misc]
        rows = self.train_dataset  # type: ignore[attr-defined]
        return token_budget_loader(rows, self.speed.tokens_per_batch, self)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return the batches of a step; none if a checkpoint had the last step already.

        The trainer looks at the number of steps after a step only, and would make one too many.
        """
        state, control = self.state, self.control  # type: ignore[attr-defined]
        if state.global_step >= state.max_steps:
            control.should_training_stop = True
            return [], None
        return super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Count the batch's tokens, then do the trainer's own step."""
        num_tokens = take_num_tokens(inputs)
        self.tokens_seen = self.tokens_seen + num_tokens.sum()
        if self.step_batches is not None:
            self.step_batches.append(SeenBatch(inputs["input_ids"], num_tokens))
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self.step_losses is not None:
            self.step_losses.append(loss)
        return loss

    def loss_of_rows(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, as a training step has it, without counting anything."""
        take_num_tokens(batch)
        inputs = self._prepare_inputs(batch)  # type: ignore[attr-defined]
        with self.compute_loss_context_manager():  # type: ignore[attr-defined]
            return self.compute_loss(model, inputs)  # type: ignore[attr-defined]

    def rows_of_step(self) -> list[int]:
        """Return the numbers of the training rows of the present step, of all processes."""
        wanted = [row for batch in self.step_batches or [] for row in batch.rows()]
        found = find_rows(self.train_dataset, wanted)  # type: ignore[attr-defined]
        return sorted(set(gather_object(found)))

    def total_tokens_seen(self) -> int:
        """Return the tokens trained on so far over all processes (call it on every one)."""
        accelerator = self.accelerator  # type: ignore[attr-defined]
        count = torch.as_tensor(self.tokens_seen, device=accelerator.device)
        return int(accelerator.reduce(count.clone()))

    def totals(self) -> dict[str, float]:
        """Return tokens and seconds of all starts of the run (call it on every process)."""
        seconds = self.seconds_before + time.monotonic() - self.started
        return {"num_tokens": self.total_tokens_seen(), "seconds": round(seconds, 3)}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log `num_tokens` as counted here: TRL counts only the first row of packed blocks."""
        metrics = self._metrics  # type: ignore[attr-defined]
        metrics["eval"].pop("num_tokens", None)  # it would hide the count of evaluated tokens
        metrics["eval"].pop("entropy", None)  # a by-product of the gradient: see head.py
        if "loss" in logs:
            metrics["train"]["num_tokens"] = [self.total_tokens_seen()]
            if not self.num_finite_steps:  # then this is no loss but what stands in for one
                logs = {k: v for k, v in logs.items() if k not in ("loss", "grad_norm")}
            self.num_finite_steps = 0
        for values in metrics.values():  # of a step that was left out
            for name in [name for name, found in values.items() if not np.isfinite(found).all()]:
                del values[name]
        super().log(logs, start_time)  # type: ignore[misc]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card: what a run folder holds is documented in docs/run_folder.md."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Bring both back; then, if they may differ, set what the options of now say."""
        options = options_of_groups(self)
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is not None and self.has_changed_options:
            apply_changes(self, options)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def take_num_tokens(inputs: Batch) -> torch.Tensor:
    """Return the real tokens of each row, and remove the collator's count of them."""
    if "num_tokens" in inputs:
        return inputs.pop("num_tokens")
    return inputs["attention_mask"].sum(1)
