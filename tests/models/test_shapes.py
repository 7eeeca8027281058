"""Sizes from a config against the models that transformers and PEFT really build.

The reference is a count over the parameters of the built model, on the meta device.
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from medtune.common.errors import ConfigError
from medtune.models.adapters import count_parameters
from medtune.models.shapes import shape_of
from medtune.training.memory.activations import precision_of
from medtune.training.memory.workload import Workload

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
CONFIGS: list[PretrainedConfig] = [
    GlmConfig(),
    GlmConfig(**SMALL, head_dim=16, pad_token_id=0, attention_bias=False),
    LlamaConfig(**SMALL),
    LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    Qwen2Config(**SMALL),
    Qwen3Config(**SMALL, head_dim=16, attention_bias=True),
    Glm4Config(**SMALL, head_dim=16, pad_token_id=0, attention_bias=False),
]


def built(config: PretrainedConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_parameters_are_those_of_the_built_model(config: PretrainedConfig) -> None:
    assert shape_of(config).num_parameters == count_parameters(built(config))[1]


def test_linear_weights_leave_out_head_norms_and_biases() -> None:
    """By hand: 203,948,032 values in each of 40 layers."""
    assert shape_of(GlmConfig()).num_linear_weights == 40 * 203_948_032


@pytest.mark.parametrize("config", CONFIGS[1:], ids=lambda config: config.model_type)
@pytest.mark.parametrize(
    ("targets", "saved"),
    [
        ("all-linear", None),
        (["q_proj", "down_proj"], None),
        (["v_proj"], ["embed_tokens", "lm_head"]),
        (["v_proj"], ["o_proj"]),
    ],
)
def test_trained_values_are_those_of_the_adapter(
    config: PretrainedConfig, targets: str | list[str], saved: list[str] | None
) -> None:
    if config.tie_word_embeddings and saved and "lm_head" in saved:
        pytest.skip("PEFT refuses to save one half of a tied pair")
    adapter = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets, modules_to_save=saved)
    model = get_peft_model(built(config), adapter)

    work = Workload(shape_of(config), 1, precision_of(4, False, False), adapter, 8)
    assert work.num_trained == count_parameters(model)[0]


def test_family_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="found model_type 'gpt2'"):
        shape_of(GPT2Config())
