"""The systems of bench/gpu.py: the model on its device, whose forward it has, and the loop.

`ours` is medtune's forward; the others are transformers' with TRL's output head: padded rows with
all layers recomputed (TRL's defaults), padded rows without, and rows laid end to end, where
attention gets a dense mask. Weights, rows of a step, optimizer and loss are the same, so the
losses must be too.
"""

import argparse
from contextlib import nullcontext
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import logsigmoid
from transformers import GlmForCausalLM

from bench.flops import IGNORE_INDEX, Row, count_work
from bench.gpu_cases import OURS, PADDED_RECOMPUTED, SEED, Batch, Place, Task

LORA_RANK, LORA_ALPHA, LEARNING_RATE, BETA = 16, 32, 1e-4, 0.1


def build_base(place: Place) -> GlmForCausalLM:
    """Return the model with random weights, made on the device; the same on every call."""
    with torch.device("meta"):
        model = GlmForCausalLM(place.size.config)
    model = model.to(place.dtype).to_empty(device=place.device)
    # Frequencies are no parameters: they are computed anew, in float32 as in a loaded model.
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(place.device)
    torch.manual_seed(SEED)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.02)
            else:
                weight.fill_(1.0 if "norm" in name else 0.0)
    return model.train()


def build_model(task: Task, system: str, num_recomputed: int, place: Place) -> tuple[Any, str]:
    """Return the model ready to train under a system, and whose head scores."""
    base, head = build_base(place), "medtune"
    if system == OURS:
        from medtune.training.packed.forward import install_packed_forward
        from medtune.training.packed.lora import fuse_lora

        install_packed_forward(base, share_prefix=task.kind == "dpo")
    else:
        base.set_attn_implementation("sdpa")
        head = install_stock_head(base, task.kind)
    model: Any = base
    if not task.trains_all:
        model = get_peft_model(base, lora_config())
    if system == OURS:
        fuse_lora(base)
    if num_recomputed:
        if num_recomputed < base.config.num_hidden_layers:
            from medtune.training.memory.recompute import recompute_layers

            recompute_layers(model, num_recomputed)
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model, head


def lora_config() -> LoraConfig:
    """Return the adapter that every LoRA case trains."""
    return LoraConfig(
        task_type="CAUSAL_LM", r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0,
        target_modules="all-linear",
    )  # fmt: skip


def install_stock_head(model: GlmForCausalLM, kind: str) -> str:
    """Give a model TRL's head as its trainers ask for it; return `trl`.

    Where TRL cannot be imported, transformers' logits of the labelled positions; `logits`.
    """
    try:
        from trl.trainer.utils import add_fused_lm_head
    except ImportError:
        model.forward = PlainForward(model)
        return "logits"
    metrics = ("entropy", "is_top1") + (("mean_logits",) if kind == "dpo" else ())
    add_fused_lm_head(model, outputs=("log_probs", *metrics))
    return "trl"


class PlainForward:
    """A forward that answers as TRL's head does, by way of logits."""

    def __init__(self, model: GlmForCausalLM) -> None:
        """Keep the parts that are called."""
        self.body, self.head = model.model, model.lm_head

    def __call__(self, labels: torch.Tensor, **inputs: Any) -> Any:
        """Return `log_probs` (rows, width - 1), zero where nothing is labelled."""
        inputs.pop("fused_lm_head")
        states = self.body(**inputs, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        mask = targets != IGNORE_INDEX
        logits = self.head(states[mask]).float()
        found = logits.log_softmax(-1).gather(1, targets[mask][:, None])[:, 0]
        log_probs = found.new_zeros(mask.shape).masked_scatter(mask, found)
        return argparse.Namespace(log_probs=log_probs)


def plan_memory(task: Task, system: str, num_tokens: int, place: Place) -> tuple[int, int | None]:
    """Return how many layers to recompute, and the predicted bytes (None if nothing can tell).

    num_tokens: of the largest batch, as it goes through the model.
    """
    num_layers = place.size.config.num_hidden_layers
    fixed = num_layers if system == PADDED_RECOMPUTED else 0
    try:
        from medtune.models.shapes import shape_of
        from medtune.training.memory.activations import Kernels, precision_of
        from medtune.training.memory.estimate import estimate_memory
        from medtune.training.memory.recompute import memory_at_hand, plan_recompute
        from medtune.training.memory.workload import Workload, optimizer_bytes
    except ImportError:
        return fixed, None
    on_gpu = place.device == "cuda"
    adapter = None if task.trains_all else lora_config()
    size = precision_of(place.dtype.itemsize, bf16=on_gpu, deepspeed=False)
    moments = optimizer_bytes("adamw_torch", size.adapter if adapter else size.weights)
    kernels = Kernels(on_gpu, fuses_lora=system == OURS and adapter is not None)
    work = Workload(
        shape_of(place.size.config), num_tokens, size, adapter, moments, kernels=kernels
    )
    if system == OURS:
        plan = plan_recompute(work, memory_at_hand(on_gpu))
    else:
        plan = estimate_memory(work, fixed)
    return plan.num_recomputed, plan.allocated


class Loop:
    """A plain training loop: as little of its own as the comparison allows."""

    def __init__(self, model: Any, task: Task, place: Place) -> None:
        """Take a model and give it an optimizer over what it trains."""
        self.model, self.task, self.device = model, task, place.device
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, LEARNING_RATE, fused=True)
        # Adapters are float32, as PEFT makes them; the trainers then compute in bfloat16.
        is_mixed = place.device == "cuda" and not task.trains_all
        self.autocast = torch.autocast(place.device, torch.bfloat16) if is_mixed else nullcontext()

    def score(self, batch: Batch) -> torch.Tensor:
        """Return the log-probabilities (rows, width - 1); zero where nothing is labelled."""
        with self.autocast:
            return self.model(**batch.tensors, fused_lm_head=True).log_probs

    def score_reference(self, batch: Batch) -> torch.Tensor:
        """Return the base's log-probability of each answer."""
        with torch.no_grad(), self.model.disable_adapter():
            return self.score(batch).sum(1)

    def add_references(self, steps: list[list[Batch]]) -> None:
        """Compute the reference of every batch beforehand."""
        for batch in (batch for step in steps for batch in step):
            batch.reference = self.score_reference(batch)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the sum over the batch's labelled tokens (nats) or pairs (DPO's loss)."""
        if self.task.kind != "dpo":
            return -self.score(batch).sum()
        reference = batch.reference
        if reference is None:
            reference = self.score_reference(batch)
        chosen, rejected = (self.score(batch).sum(1) - reference).chunk(2)
        return -logsigmoid(BETA * (chosen - rejected)).sum()

    def step(self, batches: list[Batch], rows: list[Row]) -> float:
        """Train once on all batches; return the mean loss of a labelled token or of a pair."""
        count = len(rows) if self.task.kind == "dpo" else count_work(rows).num_labelled
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for batch in batches:
            loss = self.loss(batch) / count
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        return float(total)
