"""What one process trains and on how many tokens at a time, read from the options."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from peft import LoraConfig, PeftConfig, PrefixTuningConfig

from medtune.arguments import AUTO, FREEZE, StageArguments
from medtune.common.errors import ConfigError
from medtune.models.shapes import ModelShape
from medtune.training.memory.activations import Kernels, Precision, lora_targets, precision_of

if TYPE_CHECKING:
    from datasets import Dataset


class Sharding(NamedTuple):
    """What DeepSpeed spreads over the processes; stage 0 is none.

    bucket: values sent at a time.   live: weights that stage 3 holds gathered at most.
    """

    stage: int = 0
    bucket: int = 0
    live: int = 0
    is_optimizer_offloaded: bool = False
    are_weights_offloaded: bool = False


@dataclass(frozen=True)
class Workload:
    """What one process trains, and on how many tokens at a time.

    adapter: None if all weights are trained.   optimizer_bytes: for each trained value, without
    DeepSpeed.   weight_bits: 4 for linear layers in NF4, 8 for LLM.int8.   has_reference: a second,
    frozen model.
    """

    shape: ModelShape
    tokens: int
    size: Precision
    adapter: PeftConfig | None
    optimizer_bytes: int
    sharding: Sharding = Sharding()
    num_processes: int = 1
    weight_bits: int = 16
    has_reference: bool = False
    kernels: Kernels = Kernels()

    @property
    def num_trained(self) -> int:
        """Trained weights, over all processes."""
        if self.adapter is None:
            return self.shape.num_parameters
        if isinstance(self.adapter, PrefixTuningConfig):
            return self.adapter.num_virtual_tokens * 2 * self.shape.num_layers * self.shape.key
        assert isinstance(self.adapter, LoraConfig)
        targets = lora_targets(self.shape, self.adapter)
        added = self.adapter.r * sum(linear.inputs + linear.outputs for linear in targets)
        saved = set(self.adapter.modules_to_save or ())
        whole = [linear.num_parameters for linear in self.shape.linears if linear.name in saved]
        ends = len(saved & {"embed_tokens", "lm_head"}) * self.shape.vocabulary * self.shape.hidden
        return self.shape.num_layers * (added + sum(whole)) + ends


class Machine(NamedTuple):
    """Where it runs, and what the weights are there: weight_size bytes each, or weight_bits."""

    weight_size: int
    num_processes: int = 1
    on_gpu: bool = True
    weight_bits: int = 16


def build_workload(
    arguments: StageArguments[Any],
    shape: ModelShape,
    adapter: PeftConfig | None,
    length: int,
    machine: Machine,
) -> Workload:
    """Return what the options mean for one process.

    length: tokens of the longest row; of a pair, the longer answer with its prompt.
    Raises ConfigError for a DeepSpeed configuration that cannot be read, and for a tuner whose
    memory is not computed.
    """
    from trl import DPOConfig

    if arguments.adapter.tuner == FREEZE:
        raise ConfigError(
            "--tuner freeze: expected lora, ptuning_v2 or full, whose memory can be computed."
        )
    if isinstance(adapter, PrefixTuningConfig) and adapter.prefix_projection:
        raise ConfigError("--prefix_projection: expected it left out: its memory is not computed.")

    training = arguments.training
    size = precision_of(machine.weight_size, training.bf16, bool(training.deepspeed))
    is_preference = isinstance(training, DPOConfig)
    if isinstance(adapter, LoraConfig) and is_preference and training.disable_dropout:
        adapter = LoraConfig(**{**adapter.to_dict(), "lora_dropout": 0.0})
    sharding = sharding_of(training.deepspeed, shape.hidden)
    is_fused = arguments.speed.packed_forward == AUTO and fuses_lora(
        adapter, size, sharding, machine.weight_bits
    )
    tokens = training.per_device_train_batch_size * length * (2 if is_preference else 1)
    return Workload(
        shape=shape,
        tokens=arguments.speed.tokens_per_batch or tokens,
        size=size,
        adapter=adapter,
        optimizer_bytes=optimizer_bytes(training.optim, size.adapter if adapter else size.weights),
        sharding=sharding,
        num_processes=machine.num_processes,
        weight_bits=machine.weight_bits,
        has_reference=is_preference and not adapter and not training.precompute_ref_log_probs,
        kernels=Kernels(machine.on_gpu, is_fused),
    )


def fuses_lora(
    adapter: PeftConfig | None, size: Precision, sharding: Sharding, weight_bits: int
) -> bool:
    """True where medtune.training.packed.lora takes the place of PEFT's forward: its conditions."""
    return (
        isinstance(adapter, LoraConfig)
        and not (adapter.use_dora or adapter.lora_bias)
        and size.weights == size.compute == size.adapter_compute
        and sharding.stage != 3
        and weight_bits == 16
    )


def optimizer_bytes(name: str, weight_size: int) -> int:
    """Return the bytes that an optimizer keeps for each trained weight; unknown ones: as AdamW."""
    if "8bit" in name:
        return 2
    return 0 if name in ("sgd", "adafactor") else 2 * weight_size


def longest_row(rows: "Dataset") -> int:
    """Return the tokens of the longest row; of a pair, the longer answer with its prompt."""
    from pyarrow import compute

    table = rows.with_format("arrow")[:]

    def lengths(column: str) -> Any:
        return compute.list_value_length(table[column])

    if "prompt_ids" not in table.column_names:
        return int(compute.max(lengths("input_ids")).as_py())
    answers = compute.max_element_wise(lengths("chosen_ids"), lengths("rejected_ids"))
    return int(compute.max(compute.add(lengths("prompt_ids"), answers)).as_py())


def sharding_of(deepspeed: str | dict[str, Any] | None, hidden: int) -> Sharding:
    """Return what a DeepSpeed configuration (a file or its content) spreads.

    hidden: of the model; "auto" buckets are its square. Raises ConfigError for no such JSON.
    """
    if not deepspeed:
        return Sharding()
    if isinstance(deepspeed, str):
        try:
            deepspeed = json.loads(Path(deepspeed).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--deepspeed: expected a JSON file: {error}") from error
    if not isinstance(deepspeed, dict):
        raise ConfigError("--deepspeed: expected a JSON object of DeepSpeed's options.")
    zero = deepspeed.get("zero_optimization", {})
    bucket = zero.get("reduce_bucket_size", 5e8)

    def is_offloaded(what: str) -> bool:
        return zero.get(f"offload_{what}", {}).get("device", "none") != "none"

    return Sharding(
        stage=int(zero.get("stage", 0)),
        bucket=hidden * hidden if bucket == "auto" else int(bucket),
        live=int(zero.get("stage3_max_live_parameters", 1e9)),
        is_optimizer_offloaded=is_offloaded("optimizer"),
        are_weights_offloaded=is_offloaded("param"),
    )
