"""DPO against TRL's own trainer on the same pairs, and against the loss worked out by hand.

Per pair (Rafailov et al. 2023, equation 7): -log sigmoid(beta * ((log pi(c) - log ref(c)) -
(log pi(r) - log ref(r)))), with log-probabilities summed over the answer's tokens.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from medtune.arguments import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    SpeedArguments,
    StageArguments,
)
from medtune.models.adapters import TrainableModel
from medtune.training.trainers import PreferenceTrainer, Rows, build_preference_trainer

BETA = 0.3
# prompt, chosen, rejected as token ids: nothing shared, a long and a short answer, one token each
PAIRS = [
    ([11, 12, 13], [14, 15, 16, 17], [18, 19]),
    ([21, 22], [23], [24, 25, 26, 27, 28]),
    ([31, 32, 33, 34, 35], [36], [37]),
]


@pytest.fixture
def rows() -> list[dict[str, list[int]]]:
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [dict(zip(names, pair, strict=True)) for pair in PAIRS]


@pytest.fixture
def make(
    small_model_folder: Path, rows: list[dict[str, list[int]]], tmp_path: Path
) -> Callable[..., DPOTrainer]:
    def build(kind: type[DPOTrainer], packed_forward: str = "auto") -> DPOTrainer:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(small_model_folder)
        tokenizer = AutoTokenizer.from_pretrained(small_model_folder)
        arguments = DPOConfig(
            str(tmp_path), beta=BETA, bf16=False, gradient_checkpointing=False, report_to=[]
        )
        config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
        data = Dataset.from_list(rows)
        if kind is PreferenceTrainer:
            stage = StageArguments(
                ModelArguments(str(small_model_folder)), DataArguments(str(tmp_path)),
                AdapterArguments(), SpeedArguments(packed_forward), arguments,
            )  # fmt: skip
            trainer = build_preference_trainer(
                stage, TrainableModel(model, config), Rows(data, data, {}, [], []), tokenizer
            )
        else:
            # TRL's own preparation wants text; ready ids are put in their place afterwards.
            text = {"prompt": "a", "chosen": "b", "rejected": "c"}
            trainer = DPOTrainer(
                model=model, args=arguments, peft_config=config, processing_class=tokenizer,
                train_dataset=Dataset.from_list([text]),
            )  # fmt: skip
        generator = torch.Generator().manual_seed(1)
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:  # the policy must differ from the reference
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
        return trainer

    return build


def loss_and_gradients(
    trainer: DPOTrainer, rows: list[dict[str, list[int]]]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    named = trainer.model.named_parameters()
    return loss.detach(), {name: p.grad for name, p in named if p.grad is not None}


def test_padded_loss_and_gradients_equal_trl(
    make: Callable[..., DPOTrainer], rows: list[dict[str, list[int]]]
) -> None:
    loss, gradients = loss_and_gradients(make(PreferenceTrainer, "off"), rows)
    expected_loss, expected = loss_and_gradients(make(DPOTrainer), rows)

    assert torch.equal(loss, expected_loss)
    assert gradients.keys() == expected.keys() and len(gradients) == 2 * 6 * 2
    assert max(gradient.abs().max().item() for gradient in expected.values()) > 1e-3
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name]), name


def test_loss_is_that_of_the_paper(
    make: Callable[[type[DPOTrainer]], DPOTrainer], rows: list[dict[str, list[int]]]
) -> None:
    trainer = make(PreferenceTrainer)
    loss, _ = loss_and_gradients(trainer, rows)

    def log_likelihood(prompt: list[int], answer: list[int]) -> torch.Tensor:
        logits = trainer.model(torch.tensor([prompt + answer])).logits[0].double()
        scores = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        return scores.gather(1, torch.tensor(answer)[:, None]).sum()

    losses = []
    with torch.no_grad():
        for prompt, chosen, rejected in PAIRS:
            policy = log_likelihood(prompt, chosen) - log_likelihood(prompt, rejected)
            with trainer.model.disable_adapter():
                reference = log_likelihood(prompt, chosen) - log_likelihood(prompt, rejected)
            losses.append(-logsigmoid(BETA * (policy - reference)))
    # float32 log-probabilities of up to five tokens near -8 each
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-5)


def test_evaluation_averages_over_pairs_not_batches(
    make: Callable[[type[DPOTrainer]], DPOTrainer],
) -> None:
    trainer = make(PreferenceTrainer)
    trainer.args.eval_strategy = "no"
    trainer.args.per_device_eval_batch_size = 2  # batches of two pairs and of one

    batched = trainer.evaluate()
    trainer.args.per_device_eval_batch_size = 3
    whole = trainer.evaluate()

    for name in ("eval_loss", "eval_perplexity", "eval_rewards/margins", "eval_rewards/accuracies"):
        assert batched[name] == pytest.approx(whole[name], rel=1e-4), name
    assert batched["eval_num_tokens"] == whole["eval_num_tokens"] == 4 + 1 + 1
