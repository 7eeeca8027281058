"""The memory estimate against what autograd keeps and the allocator gives, and the plan it makes.

References: `saved_tensors_hooks` counts the bytes of every tensor that autograd keeps (each storage
once, parameters left out); the profiler's allocator events give a step's peak.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from transformers import (
    Glm4Config,
    Glm4ForCausalLM,
    GlmConfig,
    GlmForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from medtune.common.errors import ConfigError
from medtune.models.shapes import shape_of
from medtune.training.memory import __main__ as memory
from medtune.training.memory import estimate
from medtune.training.memory.activations import (
    Kernels,
    live_in_backward,
    precision_of,
    saved_in_layer,
)
from medtune.training.memory.estimate import GIB, estimate_memory
from medtune.training.memory.recompute import plan_recompute, recompute_layers
from medtune.training.memory.workload import Sharding, Workload, fuses_lora, sharding_of
from medtune.training.packed.lora import fuse_lora
from tests.conftest import REPO

NUM_LAYERS, TOKENS, HIDDEN = 4, 192, 128
SIZES = {
    "vocab_size": 512, "hidden_size": HIDDEN, "intermediate_size": 344, "head_dim": 16,
    "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 8, "num_key_value_heads": 2,
}  # fmt: skip
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "glm": lambda: GlmForCausalLM(GlmConfig(**SIZES, pad_token_id=0)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "glm4": lambda: Glm4ForCausalLM(Glm4Config(**SIZES, pad_token_id=0)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
}
ADAPTERS = {
    "lora": {"lora_dropout": 0.0},
    "lora with dropout": {"lora_dropout": 0.1},
    "lora on two": {"target_modules": ["q_proj", "down_proj"]},
    "fused lora": {"lora_dropout": 0.0},
    "fused lora with dropout": {"lora_dropout": 0.1},
    "full": None,
}
# The last two differ from the first two in their norms alone, which no adapter touches.
COMPUTED = [
    (family, kind)
    for family in FAMILIES
    for kind in (("lora", "full") if family in ("glm4", "qwen3") else ADAPTERS)
]
YAMLS = sorted((REPO / "configs/glm4-9b").glob("*.yaml"))


def build(family: str, kind: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any, Any]:
    """(model as it is called, its base, the adapter's configuration or None), seeded."""
    torch.manual_seed(0)
    base = FAMILIES[family]().to(dtype)
    add_fused_lm_head(base)
    options = ADAPTERS[kind]
    if options is None:
        return base.train(), base, None
    adapter = LoraConfig(task_type="CAUSAL_LM", r=8, **{"target_modules": "all-linear", **options})
    model = get_peft_model(base, adapter)
    if kind.startswith("fused"):
        fuse_lora(base)
    model.enable_input_require_grads()  # as TRL does when layers are recomputed
    return model.train(), base, adapter


def work_of(base: PreTrainedModel, adapter: Any, kind: str, bf16: bool = False) -> Workload:
    size = precision_of(base.dtype.itemsize, bf16, deepspeed=False)
    is_fused = kind.startswith("fused") and fuses_lora(adapter, size, Sharding(), 16)
    kernels = Kernels(on_gpu=False, fuses_lora=is_fused)
    return Workload(shape_of(base.config), TOKENS, size, adapter, 8, kernels=kernels)


def token_ids() -> torch.Tensor:
    return torch.randint(1, 512, (1, TOKENS), generator=torch.Generator().manual_seed(1))


def plan_layers(base: PreTrainedModel, num_recomputed: int) -> None:
    recompute_layers(base, num_recomputed)
    base.activation_checkpointing_enable()


def bytes_kept(model: torch.nn.Module, bf16: bool) -> int:
    """Bytes that autograd keeps of one forward pass with the trainers' head."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in own:
            kept[pointer] = tensor
        return tensor

    ids = token_ids()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        model(input_ids=ids, labels=ids, fused_lm_head=True)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


# -- the estimate against measurements


@pytest.mark.parametrize(("family", "kind"), COMPUTED)
@pytest.mark.parametrize("num_recomputed", [0, NUM_LAYERS // 2, NUM_LAYERS])
@pytest.mark.parametrize(
    ("dtype", "bf16"),
    [(torch.float32, False), (torch.bfloat16, True), (torch.float32, True)],
    ids=["float32", "bfloat16", "float32 under autocast"],
)
def test_activations_are_what_autograd_keeps(
    family: str, kind: str, num_recomputed: int, dtype: torch.dtype, bf16: bool
) -> None:
    """Exact but for token ids and the head's sums, 20 bytes a token: up to 3 % at this size."""
    model, base, adapter = build(family, kind, dtype)
    plan_layers(base, num_recomputed)

    work = work_of(base, adapter, kind, bf16)
    predicted = estimate_memory(work, num_recomputed).activations
    if num_recomputed and dtype == torch.float32 and bf16:
        # Recomputed layers keep no cast weights; the estimate counts them, for autocast holds them.
        casts = estimate.cast_weights(work)
        predicted -= round(casts * num_recomputed / NUM_LAYERS)
    elif num_recomputed and bf16 and adapter:
        predicted -= round(work.num_trained * 2 * num_recomputed / NUM_LAYERS)
    if num_recomputed == NUM_LAYERS and family in ("llama", "qwen3"):
        # The table of cos and sin is then an argument of the layers, no tensor that a layer keeps.
        predicted -= TOKENS * work.shape.rotary * dtype.itemsize
    assert bytes_kept(model, bf16) == pytest.approx(predicted, rel=0.03)


@pytest.mark.parametrize("kind", [kind for kind in ADAPTERS if kind != "lora on two"])
@pytest.mark.parametrize("num_recomputed", [0, 2, NUM_LAYERS])
def test_peak_of_a_step_is_that_of_the_allocator(kind: str, num_recomputed: int) -> None:
    model, base, adapter = build("glm", kind)
    plan_layers(base, num_recomputed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    body, ids = base.model, token_ids()

    def step() -> None:
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state
        hidden.backward(torch.ones_like(hidden))

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)

    work = work_of(base, adapter, kind)
    predicted = estimate_memory(work, num_recomputed).activations - TOKENS * HIDDEN * 4  # no head
    predicted += TOKENS * live_in_backward(work.shape, work.size, adapter, work.kernels)
    if num_recomputed == NUM_LAYERS:
        predicted += TOKENS * sum(
            saved_in_layer(work.shape, work.size, adapter, work.kernels).values()
        )
    assert peak == pytest.approx(predicted, rel=0.1)


@pytest.mark.parametrize("is_fused", [False, True])
def test_a_layer_of_glm4_9b_by_hand(is_fused: bool) -> None:
    """LoRA r16 on all linear layers, bfloat16 weights under autocast, no dropout."""
    adapter = LoraConfig(r=16, target_modules="all-linear", lora_dropout=0.0)
    kernels = Kernels(fuses_lora=is_fused)
    layer = saved_in_layer(shape_of(GlmConfig()), precision_of(2, True, False), adapter, kernels)

    hidden, mlp, query, key, heads, rank = 4096, 13696, 4096, 256, 32, 16
    copies = 1 if is_fused else 3  # of what query, key and value read
    assert layer == {
        "norms": 2 * 4 * (hidden + 1),
        "attention input": 2 * (copies * hidden + 3 * rank),
        "cos and sin": 2 * 2 * 64,
        "query, key, value, output": 2 * (query + key + key + query),
        "log of the softmax's sum": 4 * heads,
        "attention output": 2 * (query + rank),
        "mlp input": 2 * (hidden + rank),
        "gate, up, activated gate": 2 * 3 * mlp,
        "mlp product": 2 * (mlp + rank),
    }


# -- fixed parts

GLM = shape_of(GlmConfig())
LORA = LoraConfig(r=16, target_modules="all-linear", lora_dropout=0.0)


def glm_work(**changes: Any) -> Workload:
    values = {"shape": GLM, "tokens": 8192, "size": precision_of(2, True, False), "adapter": LORA}
    return Workload(**{**values, "optimizer_bytes": 8, **changes})


def test_lora_trains_little_beside_bfloat16_weights() -> None:
    found = estimate_memory(glm_work(), 0)

    trained = 16 * 2_974_720
    assert found.weights == 2 * GLM.num_parameters + 4 * trained
    assert (found.gradients, found.optimizer, found.communication) == (4 * trained, 8 * trained, 0)
    assert estimate_memory(glm_work(num_processes=2), 0).communication == 4 * trained


def test_four_bit_weights_are_those_of_the_layers_alone() -> None:
    found = estimate_memory(glm_work(weight_bits=4), 0)

    ends = 2 * (GLM.num_parameters - GLM.num_linear_weights)
    body = GLM.num_linear_weights * (4 + 1 / 8 + 1 / 512) / 8
    assert found.weights == pytest.approx(ends + body + 4 * 16 * 2_974_720, abs=2)


def test_eight_bit_weights_are_those_of_the_layers_alone() -> None:
    found = estimate_memory(glm_work(weight_bits=8), 0)

    ends = 2 * (GLM.num_parameters - GLM.num_linear_weights)
    assert found.weights == ends + GLM.num_linear_weights + 4 * 16 * 2_974_720


def test_zero3_spreads_weights_gradients_and_optimizer() -> None:
    size = precision_of(2, True, deepspeed=True)
    sharding = sharding_of(str(REPO / "configs/deepspeed/zero3.json"), GLM.hidden)
    work = glm_work(size=size, adapter=None, sharding=sharding, num_processes=8)
    found = estimate_memory(work, 0)

    assert sharding == Sharding(stage=3, bucket=4096 * 4096, live=10**9)
    assert found.weights == found.gradients == 2 * GLM.num_parameters // 8
    assert found.optimizer == 12 * GLM.num_parameters // 8
    assert found.communication == 2 * 10**9 + 2 * 2 * 4096 * 4096


def test_zero2_keeps_the_weights_whole_and_offload_takes_the_optimizer_away() -> None:
    size = precision_of(2, True, deepspeed=True)
    content = json.loads((REPO / "configs/deepspeed/zero2.json").read_text())
    content["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    sharding = sharding_of(content, GLM.hidden)
    found = estimate_memory(
        glm_work(size=size, adapter=None, sharding=sharding, num_processes=4), 0
    )

    assert (sharding.stage, sharding.bucket) == (2, 200_000_000)
    assert found.weights == 2 * GLM.num_parameters
    assert found.gradients == 2 * GLM.num_parameters // 4
    assert found.optimizer == 0


def test_a_reference_model_is_counted_as_a_second_one() -> None:
    alone, both = (
        estimate_memory(glm_work(adapter=None, has_reference=has), 0).weights
        for has in (False, True)
    )
    assert both == 2 * alone


# -- the plan


def test_plan_is_the_fewest_layers_that_fit_and_falls_with_memory() -> None:
    work = glm_work()
    nums = []
    for gib in range(28, 120, 4):
        plan = plan_recompute(work, gib * GIB)
        nums.append(plan.num_recomputed)
        assert plan.peak <= 0.92 * gib * GIB
        if plan.num_recomputed:
            fewer = estimate_memory(work, plan.num_recomputed - 1)
            assert fewer.peak > 0.92 * gib * GIB
    assert nums == sorted(nums, reverse=True)
    assert nums[0] > 30
    assert nums[-1] == 0


def test_plan_that_cannot_fit_is_the_smallest_there_is() -> None:
    work = glm_work()
    peaks = [estimate_memory(work, num).peak for num in range(GLM.num_layers + 1)]

    assert plan_recompute(work, 8 * GIB).peak == min(peaks)


def test_plan_grows_with_the_batch() -> None:
    plans = [
        plan_recompute(glm_work(tokens=tokens), 80 * GIB) for tokens in range(1024, 16384, 512)
    ]
    nums = [plan.num_recomputed for plan in plans]

    assert nums == sorted(nums)
    assert nums[0] == 0
    assert nums[-1] > 20


# -- the command


def predict(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    memory.main(list(words))
    return capsys.readouterr().out


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "words",
    [
        ["--gpu_memory_gb=80"],
        ["--gpu_memory_gb=48", "--num_processes=2"],
        ["--gpu_memory_gb=24", "--quantization_bit=4"],
        [
            "--gpu_memory_gb=80", "--num_processes=8", "--use_peft=False",
            "--deepspeed", str(REPO / "configs/deepspeed/zero3.json"),
        ],
    ],
    ids=["80 GB", "2 x 48 GB", "24 GB in 4 bits", "8 x 80 GB in full"],
)  # fmt: skip
def test_every_glm4_9b_configuration_gets_a_plan_that_fits(
    path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = predict(capsys, "--config", str(path), *words)

    last = out.splitlines()[-1]
    assert last.startswith("recomputing ")
    assert " of 40 layers: " in last
    total, limit = (float(word) for word in last.split(": ")[1].split(" GiB")[0].split(" of "))
    assert total <= 0.92 * limit + 0.1
    assert last.split("(")[0].split(": ")[1].split()[0] in out.splitlines()[-3]


def test_prefix_is_counted_and_freeze_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    config = f"--config={REPO / 'configs/glm4-9b/sft.yaml'}"

    # tokens x (keys and values) x layers x 2 key heads of 128 values
    trained = 128 * 2 * 40 * 2 * 128
    assert f"{trained:,} weights trained" in predict(capsys, config, "--pre_seq_len=128")
    with pytest.raises(ConfigError, match="--tuner freeze: expected lora, ptuning_v2 or full"):
        predict(capsys, config, "--tuner=freeze")


ROW = re.compile(
    r"^\| (?P<machine>[^|]+) \| `(?P<options>--[^`]+)` \| (?P<cells>.+) \|$", re.MULTILINE
)


def predictions(options: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """(GiB, layers recomputed) of pt, sft and dpo."""
    found = []
    for stage in ("pt", "sft", "dpo"):
        config = str(REPO / f"configs/glm4-9b/{stage}.yaml")
        words = [str(REPO / word) if word.endswith(".json") else word for word in options.split()]
        line = predict(capsys, "--config", config, *words).splitlines()[-1]
        num, gib = re.findall(r"^recomputing (\d+) of 40 layers: ([\d.]+) of", line)[0]
        found.append((gib, num))
    return found


def test_documented_predictions_are_what_the_command_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """docs/memory.md and the heads of the configurations."""
    rows = list(ROW.finditer((REPO / "docs/memory.md").read_text(encoding="utf-8")))
    tables = [
        re.findall(r"([\d.]+) \((\d+)\)", row["cells"])
        for row in rows
        if predictions(row["options"], capsys) == re.findall(r"([\d.]+) \((\d+)\)", row["cells"])
    ]
    assert len(tables) == len(rows) == 6

    for stage, path in enumerate(("pt", "sft", "dpo")):
        head = (REPO / f"configs/glm4-9b/{path}.yaml").read_text(encoding="utf-8")
        stated = re.findall(r"([\d.]+) GiB, (\d+) of 40", head)
        assert stated[:3] == [table[stage] for table in tables[:3]]
        assert stated[3:] in ([], [tables[4][stage]])


def test_what_cannot_fit_says_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    out = predict(capsys, "--config", str(YAMLS[0]), "--gpu_memory_gb=16")

    assert "--per_device_train_batch_size" in out.splitlines()[-1]


def test_flags_of_the_stage_change_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(REPO / "configs/glm4-9b/sft.yaml")]

    assert predict(capsys, *config).startswith("8,192 tokens in a micro-batch")
    assert predict(capsys, *config, "--max_length=512").startswith("2,048 tokens")
    assert predict(capsys, *config, "--tokens_per_batch=3000").startswith("3,000 tokens")
    pairs = ["--config", str(REPO / "configs/glm4-9b/dpo.yaml")]
    assert predict(capsys, *pairs).startswith("6,144 tokens")  # 2 pairs x 2 answers x 1536


def test_model_may_be_named_by_its_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    LlamaConfig(**SIZES).save_pretrained(tmp_path)
    config = ["--config", str(REPO / "configs/tiny/sft.yaml")]

    for name in (tmp_path, tmp_path / "config.json"):
        out = predict(capsys, *config, f"--model_config={name}", "--gpu_memory_gb=8")
        assert "recomputing 0 of 4 layers" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "--stage: expected pt, sft or dpo, found none"),
        (["--stage=ppo"], "--stage: expected pt, sft or dpo, found ppo"),
        (["--config=configs/none/sft.yaml"], "expected a readable YAML file"),
        (["--config={tiny}"], "--model_config: expected a config.json or its folder, found none"),
        (["--config={tiny}", "--model_config=/nowhere"], "found /nowhere"),
        (["--config={tiny}", "--model_config={gpt2}"], "found model_type 'gpt2'"),
        (["--config={tiny}", "--model_config={broken}"], "that transformers can read"),
        (["--config={glm}", "--gpu_memory_gb=0"], "--gpu_memory_gb: expected more than 0"),
        (["--config={glm}", "--gpu_memory_gb=big"], "--gpu_memory_gb"),
        (["--config={glm}", "--num_processes=0"], "--num_processes: expected 1 or more"),
        (["--config={glm}", "--quantization_bit=5"], "--quantization_bit"),
        (
            ["--config={glm}", "--quantization_bit=4", "--use_peft=False"],
            "4-bit weights are frozen",
        ),
        (["--config={glm}", "--peft_path=/nowhere"], "expected adapter_config.json there"),
        (["--config={glm}", "--gpu_memory=3"], "did you mean --gpu_memory_gb"),
        (["--config={glm}", "--fp16", "--bf16=False"], "--fp16: expected bf16"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the models of an earlier `bash run_all.sh` lie in the repository
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2/config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    names = {"tiny": REPO / "configs/tiny/sft.yaml", "glm": REPO / "configs/glm4-9b/sft.yaml"}
    names |= {name: tmp_path / name for name in ("gpt2", "broken")}

    with pytest.raises(ConfigError) as caught:
        memory.main([word.format(**names) for word in words])

    assert expected in str(caught.value)
    assert caught.value.exit_code == 2
