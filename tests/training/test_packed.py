"""The packed forward against each row run alone, and against TRL's padded one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    GlmConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.models.auto import AutoModelForCausalLM
from trl import DPOConfig
from trl.trainer.utils import add_fused_lm_head

from medtune.arguments import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    SpeedArguments,
    StageArguments,
)
from medtune.data.preparation import Rows
from medtune.models.adapters import TrainableModel
from medtune.training.packed.forward import install_packed_forward, pack_batch, why_not_packed
from medtune.training.packed.head import FrozenHead, TrainedHead, score_tokens
from medtune.training.packed.prefix import install_prefix
from medtune.training.packed.segments import Segment, Segments, attend_each
from medtune.training.trainers import build_preference_trainer

VOCABULARY = 97
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
         "num_hidden_layers": 2, "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
CONFIGS = {
    "glm, shared key heads": GlmConfig(
        **SHAPE, num_attention_heads=4, num_key_value_heads=2, head_dim=8
    ),
    "llama, a key head each": LlamaConfig(**SHAPE, num_attention_heads=4, num_key_value_heads=4),
    "gpt2, absolute positions": GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    ),
}  # fmt: skip
# float32 sums in another order, on log-probabilities near -4.6 and gradients near 0.1
TOLERANCE = 1e-5
X = -100  # the label of what is not learnt


def new_model(config: Any) -> PreTrainedModel:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1", "mean_logits"))
    return model.train()


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def models(request: pytest.FixtureRequest) -> Callable[[bool], tuple[Any, Any]]:
    """A function (share_prefix) -> the same model twice: packed, and as it is."""

    def build(share_prefix: bool) -> tuple[Any, Any]:
        packed, plain = new_model(request.param), new_model(request.param)
        install_packed_forward(packed, share_prefix)
        return packed, plain

    return build


# prompt, chosen, rejected
PAIRS = {
    "ordinary": ([5, 6, 7], [8, 9, 10, 11], [12, 13]),
    "answers begin alike": ([5, 6], [8, 9, 10, 11], [8, 9, 12, 13, 14]),
    "chosen is the beginning of rejected": ([5, 6], [8, 9], [8, 9, 12, 13]),
    "rejected is the beginning of chosen": ([5, 6], [8, 9, 12, 13], [8, 9]),
    "identical answers": ([5, 6, 7], [8, 9], [8, 9]),
    "one answer is empty": ([5, 6, 7], [8, 9], []),
    "no prompt, nothing shared": ([], [8, 9, 10], [12, 13]),
    "one token each": ([5], [8], [9]),
}


def rows_of(pairs: list[tuple[list[int], list[int], list[int]]]) -> list[tuple[list, list]]:
    """Rows (ids, labels) in TRL's order: all chosen, then all rejected."""
    chosen = [(p + c, [X] * len(p) + c) for p, c, _ in pairs]
    return chosen + [(p + r, [X] * len(p) + r) for p, _, r in pairs]


def batch_of(rows: list[tuple[list, list]], side: str) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)

    def padded(values: list[int], filler: int) -> torch.Tensor:
        free = width - len(values)
        return pad(torch.tensor(values), (0, free) if side == "right" else (free, 0), value=filler)

    return {
        "input_ids": torch.stack([padded(ids, 0) for ids, _ in rows]),
        "labels": torch.stack([padded(labels, X) for _, labels in rows]),
        "attention_mask": torch.stack([padded([1] * len(ids), 0) for ids, _ in rows]),
    }


def one_by_one(model: Any, rows: list[tuple[list, list]]) -> list[torch.Tensor]:
    """Log-probabilities of each row's labelled tokens, from its own full logits."""
    scores = []
    for ids, labels in rows:
        table = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        columns = [j for j in range(1, len(ids)) if labels[j] != X]
        scores.append(table[[j - 1 for j in columns], [labels[j] for j in columns]])
    return scores


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def check_equal(packed: Any, plain: Any, rows: list[tuple[list, list]], side: str) -> None:
    """Same log-probabilities and, for a loss that weights every token differently, gradients."""
    batch = batch_of(rows, side)
    outputs = packed(**batch, fused_lm_head=True)
    weights = torch.randn(outputs.log_probs.shape, generator=torch.Generator().manual_seed(5))
    (outputs.log_probs * weights).sum().backward()
    # A row's first token has nothing before it that could predict it.
    labelled = (batch["labels"][:, 1:] != X) & batch["attention_mask"][:, :-1].bool()
    assert not outputs.log_probs[~labelled].any()
    assert torch.equal(outputs.label_mask, labelled)

    expected = one_by_one(plain, rows)
    ours = [row[mask] for row, mask in zip(outputs.log_probs, labelled, strict=True)]
    for got, want in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=0)
    factors = [row[mask] for row, mask in zip(weights, labelled, strict=True)]
    sum((w * s).sum() for w, s in zip(factors, expected, strict=True)).backward()
    theirs = gradients(plain)
    found = gradients(packed)
    assert found.keys() == theirs.keys()
    assert any(gradient.abs().max() > 0.01 for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(found[name], gradient, atol=TOLERANCE, rtol=0, msg=name)


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_equal_rows_alone(models: Callable[..., Any], side: str) -> None:
    rows = [
        ([5, 6, 7, 8, 9], [X, X, 7, 8, 9]),
        ([10, 11], [X, 11]),
        ([12, 13, 14, 15, 16, 17, 18], [X, 13, X, X, 16, X, X]),
        ([19], [X]),
        ([20, 21, 22], [X, X, X]),
    ]
    check_equal(*models(share_prefix=False), rows, side)


@pytest.mark.parametrize("side", ["right", "left"])
def test_pairs_equal_rows_alone(models: Callable[..., Any], side: str) -> None:
    check_equal(*models(share_prefix=True), rows_of(list(PAIRS.values())), side)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_single_pair_equals_its_rows_alone(
    models: Callable[..., Any], pair: tuple[list[int], list[int], list[int]]
) -> None:
    check_equal(*models(share_prefix=True), rows_of([pair]), "right")


def test_documents_of_a_block_equal_documents_alone(models: Callable[..., Any]) -> None:
    check_documents(*models(share_prefix=False))


def check_documents(packed: Any, plain: Any) -> None:
    documents = [[5, 6, 7], [8, 9, 10, 11], [12, 13]]
    block = torch.tensor([[*documents[0], *documents[1]], [*documents[2], 0, 0, 0, 0, 0]])
    labels = torch.tensor([[X, 6, 7, X, 9, 10, 11], [X, 13, X, X, X, X, X]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 1, 0, 1, 2, 3, 4]])

    log_probs = packed(
        input_ids=block, labels=labels, position_ids=positions, fused_lm_head=True
    ).log_probs

    alone = one_by_one(plain, [(ids, [X, *ids[1:]]) for ids in documents])
    torch.testing.assert_close(
        log_probs[labels[:, 1:] != X], torch.cat(alone), atol=TOLERANCE, rtol=0
    )


NUM_VIRTUAL = 5


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def prefixed(request: pytest.FixtureRequest) -> Callable[[bool], tuple[Any, Any]]:
    """A function (share_prefix) -> the same model with a P-Tuning prefix twice, as `models`."""

    def build(share_prefix: bool) -> tuple[Any, Any]:
        peft = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=NUM_VIRTUAL)
        packed, plain = (get_peft_model(new_model(request.param), peft) for _ in range(2))
        for model in (packed, plain):
            generator = torch.Generator().manual_seed(1)
            for parameter in model.prompt_encoder.parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator)
        install_packed_forward(packed.base_model, share_prefix)
        install_prefix(packed)
        return packed.train(), plain.train()

    return build


@pytest.mark.parametrize("side", ["right", "left"])
def test_pairs_behind_a_prefix_equal_rows_alone(prefixed: Callable[..., Any], side: str) -> None:
    packed, plain = prefixed(share_prefix=True)
    rows = rows_of(list(PAIRS.values()))
    check_equal(packed, plain, rows, side)
    with packed.disable_adapter():  # the reference of DPO
        bare = packed(**batch_of(rows, side), fused_lm_head=True).log_probs
    expected = one_by_one(plain.base_model, rows)
    torch.testing.assert_close(bare[bare != 0], torch.cat(expected), atol=TOLERANCE, rtol=0)
    assert not torch.allclose(torch.cat(expected), torch.cat(one_by_one(plain, rows)), atol=0.01)


def test_documents_behind_a_prefix_equal_documents_alone(prefixed: Callable[..., Any]) -> None:
    check_documents(*prefixed(share_prefix=False))


@pytest.mark.parametrize("num_virtual", [0, 3])
def test_gathered_keys_are_those_that_each_segment_attends_to(num_virtual: int) -> None:
    """What the GPU's kernel is given: queries and keys of all segments laid end to end."""
    generator = torch.Generator().manual_seed(2)
    parts = [Segment(0, 4), Segment(4, 6, 0, 3), Segment(6, 9)]
    segments = Segments(parts, torch.device("cpu"))
    if num_virtual:
        segments.virtual.append((torch.randn(1, 2, num_virtual, 8, generator=generator),) * 2)
    query, key, value = (torch.randn(1, 2, n, 8, generator=generator)
                         for n in (9, 9 + num_virtual, 9 + num_virtual))  # fmt: skip

    assert segments.key_index is not None
    queries, keys = segments.offsets
    outputs = []
    for number in range(len(parts)):
        rows = slice(int(queries[number]), int(queries[number + 1]))
        seen = segments.key_index[int(keys[number]) : int(keys[number + 1])]
        scores = query[:, :, rows] @ key[:, :, seen].transpose(2, 3)
        visible = torch.ones(scores.shape[2:]).tril(len(seen) - scores.size(2)).bool()
        outputs.append(scores.masked_fill(~visible, -torch.inf).softmax(-1) @ value[:, :, seen])

    ours = attend_each(query, key, value, segments, 1.0, 0.0)
    torch.testing.assert_close(ours, torch.cat(outputs, 2).transpose(1, 2))


def test_recomputed_activations_keep_the_prefix(prefixed: Callable[..., Any]) -> None:
    plain, recomputing = (prefixed(share_prefix=True)[0] for _ in range(2))
    recomputing.base_model.gradient_checkpointing_enable({"use_reentrant": False})
    (one, one_gradients), (other, other_gradients) = step(plain), step(recomputing)
    assert torch.equal(one, other)
    assert len(one_gradients) == 1
    assert all(torch.equal(one_gradients[name], other_gradients[name]) for name in one_gradients)


def test_equal_to_trls_own_forward_in_every_field(models: Callable[..., Any]) -> None:
    packed, plain = models(share_prefix=True)
    batch = batch_of(rows_of(list(PAIRS.values())), "right")
    for parameter in packed.get_output_embeddings().parameters():
        parameter.requires_grad_(False)
    ours, theirs = (model(**batch, fused_lm_head=True) for model in (packed, plain))
    mask = theirs.label_mask
    assert torch.equal(ours.label_mask, mask) and torch.equal(ours.is_top1, theirs.is_top1 & mask)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=TOLERANCE, rtol=0)
    for name in ("log_probs", "entropy", "mean_logits"):
        want = getattr(theirs, name) * mask
        torch.testing.assert_close(getattr(ours, name), want, atol=TOLERANCE, rtol=0, msg=name)


@pytest.fixture
def glm() -> Iterator[Callable[[bool], Any]]:
    """A function (packed) -> a small GLM with two adapters, the first one active."""

    def build(packed: bool) -> Any:
        model = new_model(CONFIGS["glm, shared key heads"])
        if packed:
            install_packed_forward(model, share_prefix=True)
        config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
        peft = get_peft_model(model, config)
        peft.add_adapter("second", config)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        return peft.train()

    yield build


def step(model: Any, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, dict[str, Any]]:
    batch = batch_of(rows_of(list(PAIRS.values())), "right")
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        log_probs = model(**batch, fused_lm_head=True).log_probs
    chosen, rejected = log_probs.sum(1).chunk(2)
    (chosen - rejected).mean().backward()
    return log_probs.detach(), gradients(model)


@pytest.mark.parametrize("adapter", ["default", "second"])
def test_adapters_take_turns(glm: Callable[[bool], Any], adapter: str) -> None:
    results = []
    for packed in (True, False):
        model = glm(packed)
        model.set_adapter(adapter)
        results.append(step(model))
    (ours, our_gradients), (theirs, their_gradients) = results
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    assert our_gradients.keys() == their_gradients.keys() and len(ours) > 0
    for name, gradient in their_gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_activations_change_nothing(glm: Callable[[bool], Any], reentrant: bool) -> None:
    plain, recomputing = glm(True), glm(True)
    recomputing.gradient_checkpointing_enable({"use_reentrant": reentrant})
    recomputing.enable_input_require_grads()
    (one, one_gradients), (other, other_gradients) = step(plain), step(recomputing)
    assert torch.equal(one, other)
    assert all(torch.equal(one_gradients[name], other_gradients[name]) for name in one_gradients)


def test_bfloat16_autocast_is_as_near_as_padding_is(glm: Callable[[bool], Any]) -> None:
    exact, _ = step(glm(False))
    ours, _ = step(glm(True), torch.bfloat16)
    padded, _ = step(glm(False), torch.bfloat16)
    noise = (padded - exact).abs().max()
    assert 0 < (ours - exact).abs().max() < 2 * noise


def test_generation_and_plain_logits_are_as_before(models: Callable[..., Any]) -> None:
    packed, plain = (model.eval() for model in models(share_prefix=False))
    batch = batch_of([([5, 6, 7, 8], [X] * 4), ([9, 10], [X] * 2)], "left")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(packed(**inputs).logits, plain(**inputs).logits)
    block = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 9, 10]]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]]),
    }
    assert torch.equal(packed(**block).logits, plain(**block).logits)
    settings: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(packed.generate(**inputs, **settings), plain.generate(**inputs, **settings))


def test_the_stream_holds_what_scores_depend_on_and_no_more() -> None:
    batch = batch_of(rows_of([([5, 6], [7, 8, 9], [7, 10, 11])]), "right")
    packed = pack_batch(**batch, share_prefix=True)
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 10]]  # no last tokens: nothing follows them
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 3]]
    assert packed.segments.parts == [Segment(0, 4), Segment(4, 5, 0, 3)]
    assert packed.targets.tolist() == [7, 8, 9, 7, 10, 11]
    assert packed.scored_from.tolist() == [1, 2, 3, 1, 2, 4]
    assert packed.scored_at.tolist() == [1, 2, 3, 5, 6, 7]


def test_a_batch_without_a_label_is_a_zero_that_can_be_trained_on() -> None:
    model = new_model(CONFIGS["glm, shared key heads"])
    install_packed_forward(model, share_prefix=False)
    batch = batch_of([([5, 6, 7], [X, X, X]), ([8, 9], [X, X])], "right")
    outputs = model(**batch, fused_lm_head=True)
    outputs.loss.backward()
    assert outputs.loss.item() == 0 and outputs.log_probs.shape == (2, 2)
    assert all(not gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("head", [FrozenHead, TrainedHead])
def test_heads_equal_log_softmax(
    head: type[torch.autograd.Function], with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.training.packed.head.TRAINED_TILE_TOKENS", 64)  # three tiles
    torch.manual_seed(0)
    states, weight = torch.randn(150, 32), torch.randn(700, 32)
    bias = torch.randn(700) if with_bias else None
    leaves = [tensor for tensor in (states, weight, bias) if tensor is not None]
    leaves = leaves if head is TrainedHead else [states]
    for leaf in leaves:
        leaf.requires_grad_()
    targets, upstream = torch.randint(700, (150,)), torch.randn(150)
    logits = states.double() @ weight.double().T + (0 if bias is None else bias.double())
    table = logits.log_softmax(1)
    expected = table.gather(1, targets[:, None])[:, 0]
    expected_gradients = torch.autograd.grad((expected * upstream).sum(), leaves, retain_graph=True)

    log_probs, entropy, is_top1 = head.apply(states, weight, bias, targets)
    gradients = torch.autograd.grad((log_probs * upstream).sum(), leaves)

    # float32 against float64: logits up to 30, gradients up to 10
    torch.testing.assert_close(log_probs.double(), expected, atol=2e-5, rtol=0)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=4e-5, rtol=0)
    torch.testing.assert_close(entropy.double(), -(table.exp() * table).sum(1), atol=5e-5, rtol=0)
    assert torch.equal(is_top1, logits.argmax(1) == targets)


def test_no_head_keeps_the_logits_of_a_batch() -> None:
    head = torch.nn.Linear(8, 5000, bias=False)
    states = torch.randn(3000, 8, requires_grad=True)
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            sizes = [part.numel() for part in tree_leaves(made) if isinstance(part, torch.Tensor)]
            largest = max(largest, *sizes, 0)
            return made

    with Largest():
        score_tokens(states, head, torch.zeros(3000, dtype=torch.long)).log_probs.sum().backward()

    assert largest < 3000 * 5000 / 10


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MistralConfig(**SHAPE, num_attention_heads=4, sliding_window=16), "everything before"),
        (Qwen2Config(**SHAPE, num_attention_heads=4, use_sliding_window=True, sliding_window=16,
                     max_window_layers=1), "everything before"),
        (Gemma2Config(**SHAPE, num_attention_heads=4), "everything before"),
        (GraniteConfig(**SHAPE, num_attention_heads=4, logits_scaling=8.0), "scales its logits"),
        (MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1), "attention"),
        (MistralConfig(**SHAPE, num_attention_heads=4, sliding_window=None), None),
        (Qwen2Config(**SHAPE, num_attention_heads=4), None),
    ],
)  # fmt: skip
def test_models_that_would_not_be_exact_stay_padded(config: Any, reason: str | None) -> None:
    found = why_not_packed(AutoModelForCausalLM.from_config(config))
    assert (found is None) if reason is None else (found and reason in found)


LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip


@pytest.fixture
def preference_loss(small_model_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """A function (packed_forward, options) -> loss and gradients of DPO on PAIRS."""

    def run(mode: str, peft_config: Any = None, **options: Any) -> tuple[float, dict[str, Any]]:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(small_model_folder)
        config = peft_config or LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
        training = DPOConfig(
            str(tmp_path), beta=0.3, bf16=False, gradient_checkpointing=False, report_to=[],
            use_cpu=True, **options,
        )  # fmt: skip
        arguments = StageArguments(
            ModelArguments("unused"), DataArguments("unused"), AdapterArguments(),
            SpeedArguments(packed_forward=mode), training,
        )  # fmt: skip
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        pairs = [pair for name, pair in PAIRS.items() if "no prompt" not in name]
        rows = [dict(zip(names, pair, strict=True)) for pair in pairs]
        data = Dataset.from_list(rows)
        trainer = build_preference_trainer(
            arguments, TrainableModel(model, config), Rows(data, data, {}, [], []),
            AutoTokenizer.from_pretrained(small_model_folder),
        )  # fmt: skip
        generator = torch.Generator().manual_seed(1)
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:  # the policy must differ from the reference
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
        loss.backward()
        return loss.item(), gradients(trainer.model)

    return run


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_every_preference_loss_equals_trls(
    preference_loss: Callable[..., Any], loss_type: str
) -> None:
    smoothing = {"label_smoothing": 0.1} if loss_type in ("exo_pair", "robust") else {}
    loss, found = preference_loss("auto", loss_type=loss_type, **smoothing)
    expected_loss, expected = preference_loss("off", loss_type=loss_type, **smoothing)
    assert loss == pytest.approx(expected_loss, rel=TOLERANCE)
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    assert scale > 0 and found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=TOLERANCE * scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"use_weighting": True}, "--use_weighting"),
        (
            {"peft_config": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)},
            "virtual tokens",
        ),
    ],
)
def test_options_that_need_padding_get_it_and_say_so(
    preference_loss: Callable[..., Any],
    options: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loss, _ = preference_loss("auto", **options)
    lines = [record.message for record in caplog.records if "padded forward" in record.message]
    assert len(lines) == 1 and reason in lines[0]
    assert loss == preference_loss("off", **options)[0]
