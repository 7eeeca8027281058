"""TRL's trainers on rows that are ready: our data in, token-weighted evaluation out.

The losses and the optimisation are TRL's. What is added: rows come tokenised and masked, so TRL
prepares nothing; evaluation sums losses over tokens instead of averaging batch means; tokens are
counted without padding.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer import dpo_trainer

from medtune.arguments import StageArguments
from medtune.common.errors import ConfigError
from medtune.data.grouping import fault_tolerance_data_collator
from medtune.data.rows import Rows
from medtune.models.adapters import TrainableModel
from medtune.models.loading import resolve_model
from medtune.training.checkpoints.saving import CommittedSaves
from medtune.training.memory.recompute import settle_recompute
from medtune.training.memory.workload import longest_row
from medtune.training.packed.install import make_fast
from medtune.training.ready_rows import Batch, ReadyRows, take_num_tokens
from medtune.training.reference import add_reference
from medtune.training.token_batches import gather_uneven
from medtune.training.tuned_weights import TunedWeights, check_prefix_is_read


def token_weighted_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return loss (nats per token), perplexity and token count from per-row sums.

    predictions: (rows,) negative log-likelihood of a row.   label_ids: (rows,) its tokens.
    """
    num_tokens = int(prediction.label_ids.sum())
    loss = float(prediction.predictions.astype("float64").sum()) / max(num_tokens, 1)
    return {"loss": loss, "perplexity": perplexity(loss), "num_tokens": num_tokens}


def perplexity(loss: float) -> float:
    """Return exp(loss); infinity where that overflows."""
    return float(torch.tensor(loss, dtype=torch.float64).exp())


def num_pairs_in(inputs: Batch) -> int:
    """Return the pairs of a batch: chosen and rejected answers are rows of their own."""
    return len(inputs["input_ids"]) // 2


@contextmanager
def without_weight_hash() -> Iterator[None]:
    """Keep TRL from hashing every weight in float32: its cache is not used, reference.py's is."""
    original = dpo_trainer.hash_module
    dpo_trainer.hash_module = lambda module: ""
    try:
        yield
    finally:
        dpo_trainer.hash_module = original


class LanguageModelTrainer(ReadyRows, CommittedSaves, TunedWeights, SFTTrainer):
    """SFTTrainer for pretraining and fine-tuning rows (input_ids, labels, [seq_lengths])."""

    def __init__(self, arguments: StageArguments[SFTConfig], **kwargs: Any) -> None:
        """Pass the training options and everything else on to SFTTrainer."""
        super().__init__(
            adapter=arguments.adapter,
            args=arguments.training,
            compute_metrics=token_weighted_metrics,
            **kwargs,
        )
        self.speed = arguments.speed
        check_prefix_is_read(self)
        if self.speed.packed_forward == "auto":
            make_fast(self, share_prefix=False)

    def prediction_step(
        self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Return (None, loss sum per row, tokens per row), gathered and summed by the caller."""
        take_num_tokens(inputs)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        return None, -outputs.log_probs.float().sum(1), outputs.label_mask.sum(1)


class PreferenceTrainer(ReadyRows, CommittedSaves, TunedWeights, DPOTrainer):
    """DPOTrainer for ready pairs (prompt_ids, chosen_ids, rejected_ids).

    Perplexity in its evaluation is the policy's on the chosen answers.
    """

    train_dataset: Dataset
    eval_dataset: Dataset
    reference_weights: list[str] | None = None  # folders; None until the forward is in place

    def __init__(self, arguments: StageArguments[DPOConfig], **kwargs: Any) -> None:
        """Pass the training options and everything else on to DPOTrainer."""
        with without_weight_hash():
            super().__init__(
                adapter=arguments.adapter,
                args=arguments.training,
                compute_metrics=chosen_metrics,
                **kwargs,
            )
        self.eval_batch_sizes: list[int] = []
        self.speed = arguments.speed
        check_prefix_is_read(self)
        if self.speed.packed_forward == "auto":
            make_fast(self, share_prefix=True)
        if self.speed.tokens_per_batch and self.accelerator.num_processes > 1:
            gather_uneven(self.accelerator)
        base, adapter = arguments.model.model_name_or_path, arguments.adapter.peft_path
        self.reference_weights = [str(resolve_model(base)), *([adapter] if adapter else [])]
        if self.precompute_ref_logps:
            self.train_dataset = self._precompute_ref_logps(self.train_dataset, "training", 0)
            self.eval_dataset = self._precompute_ref_logps(self.eval_dataset, "validation", 0)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Return the pairs with the reference's scores; TRL's own call comes too early for it."""
        if self.reference_weights is None:
            return dataset
        return add_reference(self, dataset, self.reference_weights, name)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Any:
        """Return the pairs of one optimizer step over all processes, if batches differ in it."""
        if self.speed.tokens_per_batch is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        num_pairs = sum(num_pairs_in(batch) for batch in batch_samples)
        return self.accelerator.reduce(torch.tensor(num_pairs, device=device))

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Return TRL's mean over the batch's pairs, weighted by their share of the step's."""
        loss = super().compute_loss(model, inputs, return_outputs)
        if num_items_in_batch is None or self.speed.tokens_per_batch is None:
            return loss
        # The trainer averages over the step's batches and over processes as if all were equal.
        num_batches = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        return loss * num_pairs_in(inputs) * num_batches / num_items_in_batch

    def prediction_step(
        self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (DPO loss, loss sum per chosen answer, tokens per chosen answer)."""
        inputs = self._prepare_inputs(inputs)
        policy = Recorder(model)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(policy, inputs)
        num_pairs = num_pairs_in(inputs)
        self.eval_batch_sizes.append(num_pairs)
        num_tokens = inputs["completion_mask"][:num_pairs, 1:].sum(1)
        return loss, -policy.log_probs[:num_pairs].float().sum(1), num_tokens

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Average evaluation metrics over pairs; TRL averages batches, the short last one too."""
        sizes = self.eval_batch_sizes
        if sizes and "loss" not in logs:
            for name, values in self._metrics["eval"].items():
                weighted = (value * size for value, size in zip(values, sizes, strict=False))
                self._metrics["eval"][name] = [sum(weighted) / sum(sizes)]
            sizes.clear()
        super().log(logs, start_time)


def chosen_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return perplexity and token count of the chosen answers; the loss is DPO's own."""
    metrics = token_weighted_metrics(prediction)
    return {"perplexity": metrics["perplexity"], "num_tokens": metrics["num_tokens"]}


def build_language_model_trainer(
    arguments: StageArguments[SFTConfig],
    model: TrainableModel,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
) -> LanguageModelTrainer:
    """Return the trainer for blocks or conversations."""
    is_text = "seq_lengths" in rows.train.column_names
    check_window("block_size" if is_text else "max_length", arguments, model, rows.train)
    settle_recompute(arguments, model, rows.train)
    return LanguageModelTrainer(
        arguments,
        data_collator=fault_tolerance_data_collator(tokenizer.pad_token_id),
        **trainer_inputs(model, rows, tokenizer),
    )


def build_preference_trainer(
    arguments: StageArguments[DPOConfig],
    model: TrainableModel,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
) -> PreferenceTrainer:
    """Return the trainer for pairs; TRL's own collator batches them."""
    check_window("max_length", arguments, model, rows.train)
    settle_recompute(arguments, model, rows.train)
    inputs = trainer_inputs(model, rows, tokenizer)
    if needs_copy(arguments, model):
        inputs["ref_model"] = copy.deepcopy(model.model)
    return PreferenceTrainer(arguments, **inputs)


def needs_copy(arguments: StageArguments[DPOConfig], model: TrainableModel) -> bool:
    """Whether the reference must be a copy: TRL reads it from the base's folder, without tokens.

    With an adapter the base is the reference, and so is the model before its first step.
    """
    is_whole = model.new_adapter is None and not is_peft_model(model.model)
    has_own = not arguments.training.precompute_ref_log_probs
    return bool(arguments.adapter.add_tokens) and is_whole and has_own


def check_window(
    option: str, arguments: StageArguments[Any], model: TrainableModel, rows: Dataset
) -> None:
    """Raise ConfigError if a row, with the prefix before it, has more tokens than positions.

    option: what limits the rows.
    """
    positions = getattr(getattr(model.model, "config", None), "max_position_embeddings", None)
    prefix = arguments.adapter.pre_seq_len or 0
    limit = arguments.to_dict()[option]
    if positions is None or (limit and limit + prefix <= positions):
        return
    if (longest := longest_row(rows)) + prefix <= positions:
        return
    behind = f" behind a prefix of {prefix:,}" if prefix else ""
    raise ConfigError(
        f"--{option}: expected rows of at most {positions - prefix:,} tokens, of the {positions:,} "
        f"positions that {arguments.model.model_name_or_path} has{behind}, found one of "
        f"{longest:,}; give --{option} {positions - prefix}."
    )


def trainer_inputs(
    model: TrainableModel, rows: Rows, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Return what both trainers are built from."""
    return {
        "model": model.model,
        "peft_config": model.new_adapter,
        "train_dataset": rows.train,
        "eval_dataset": rows.validation,
        "processing_class": tokenizer,
    }


class Recorder:
    """Calls a model and keeps the log-probabilities, so that evaluation needs no second pass."""

    def __init__(self, model: Any) -> None:
        """Wrap `model`."""
        self.model = model

    def __call__(self, **inputs: Any) -> Any:
        """Call the model; `log_probs` (rows, tokens - 1) are then those of this call."""
        outputs = self.model(**inputs)
        self.log_probs = outputs.log_probs
        return outputs
