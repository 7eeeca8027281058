"""The real 40-layer GLM-4-9B-Chat configuration, built without memory, counted by hand."""

import torch
from peft import get_peft_model
from transformers import GlmConfig, GlmForCausalLM
from transformers.initialization import no_init_weights

from medtune.arguments import AdapterArguments
from medtune.models.adapters import count_parameters
from medtune.models.tuners import lora_config

LAYERS, HIDDEN, MLP, VOCABULARY, HEADS, GROUPS, HEAD_DIM = 40, 4096, 13696, 151552, 32, 2, 128


def real_model() -> GlmForCausalLM:
    with torch.device("meta"), no_init_weights():
        return GlmForCausalLM(GlmConfig())


def test_the_default_glm_configuration_is_the_9b_model() -> None:
    _, total = count_parameters(real_model())

    # By hand: embedding and head; in a layer q, k, v with bias, o, gate_up, down, two norms; norm.
    query, key = HEADS * HEAD_DIM, GROUPS * HEAD_DIM
    attention = HIDDEN * (query + 2 * key) + query + 2 * key + query * HIDDEN
    layer = attention + HIDDEN * 2 * MLP + MLP * HIDDEN + 2 * HIDDEN
    assert total == 2 * VOCABULARY * HIDDEN + LAYERS * layer + HIDDEN
    assert round(total / 1e9, 2) == 9.40


def test_lora_on_all_linear_layers_takes_the_six_of_each_layer_and_not_the_head() -> None:
    arguments = AdapterArguments(lora_rank=16)
    model = get_peft_model(real_model(), lora_config(arguments))

    names = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    leaves = {name.rsplit(".", 1)[1] for name in names}
    assert leaves == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert len(names) == 6 * LAYERS
    trainable, _ = count_parameters(model)
    # Rank r adds r * (inputs + outputs) for each linear layer.
    query, key = HEADS * HEAD_DIM, GROUPS * HEAD_DIM
    widths = [HIDDEN + query, HIDDEN + key, HIDDEN + key, query + HIDDEN]
    widths += [HIDDEN + 2 * MLP, MLP + HIDDEN]
    assert trainable == 16 * LAYERS * sum(widths) == 16 * 2_974_720
