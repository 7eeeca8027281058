"""The peak memory of one process in training, part by part, before anything is loaded.

What is fixed (weights, gradients, optimizer, communication) is counted from the shapes; activations
come from `medtune.training.memory.activations`. Recomputing a layer keeps its input instead of its
tensors. The layers that are recomputed are the first ones: when the backward pass reaches them, the
tensors of the others are gone, so that recomputing costs no memory of its own.
"""

from dataclasses import dataclass

from medtune.training.memory.activations import (
    FLOAT32,
    live_in_backward,
    live_in_head,
    saved_at_ends,
    saved_in_layer,
)
from medtune.training.memory.workload import Workload

GIB = 1 << 30
# Of a CUDA context; and libraries' workspaces with what the allocator cannot hand out again.
CONTEXT_BYTES, WORKSPACE_BYTES = int(0.6 * GIB), 1 * GIB
# NF4 with its scales quantised once more: 4 bits, 8 for 64 values, 32 for 64 x 256.
# LLM.int8 has one scale for a whole row.
BYTES_PER_WEIGHT = {4: (4 + 8 / 64 + 32 / (64 * 256)) / 8, 8: 1.0}


@dataclass(frozen=True)
class MemoryEstimate:
    """Predicted peak of one process, in bytes. `temporary` lives for a moment, at the peak."""

    num_recomputed: int
    num_layers: int
    weights: int
    gradients: int
    optimizer: int
    communication: int
    activations: int
    temporary: int
    reserve: int

    @property
    def allocated(self) -> int:
        """What torch.cuda.max_memory_allocated should show: the peak without the reserve."""
        return self.peak - self.reserve

    @property
    def peak(self) -> int:
        """What the device must have."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Return the bytes of each part by its name."""
        names = ("weights", "gradients", "optimizer", "communication", "activations", "temporary")
        return {name: getattr(self, name) for name in (*names, "reserve")}


def estimate_memory(work: Workload, num_recomputed: int) -> MemoryEstimate:
    """Return the predicted peak if the first `num_recomputed` layers are recomputed."""
    shape, size, adapter = work.shape, work.size, work.adapter
    layer = work.tokens * sum(saved_in_layer(shape, size, adapter, work.kernels).values())
    kept = (shape.num_layers - num_recomputed) * layer
    inputs = num_recomputed * work.tokens * size.weights * shape.hidden
    activations = kept + inputs + work.tokens * saved_at_ends(shape, size, adapter)
    activations += cast_weights(work)
    # Three moments: the head, the backward pass of a layer, the optimizer's step.
    trains_head = adapter is None or "lm_head" in (getattr(adapter, "modules_to_save", None) or ())
    head = live_in_head(shape, size, work.tokens, trains_head)
    backward = work.tokens * live_in_backward(shape, size, adapter, work.kernels) + dequantised(
        work
    )
    if num_recomputed == shape.num_layers:
        backward += layer  # no kept layer has made room for it
    step = step_bytes(work) - activations
    return MemoryEstimate(
        num_recomputed=num_recomputed,
        num_layers=shape.num_layers,
        **fixed_parts(work),
        activations=activations,
        temporary=max(head, backward, step),
        reserve=CONTEXT_BYTES + WORKSPACE_BYTES,
    )


def fixed_parts(work: Workload) -> dict[str, int]:
    """Return the bytes that do not depend on the batch."""
    stage, num, size = work.sharding.stage, work.num_processes, work.size
    trained_size = size.adapter if work.adapter else size.weights
    gradients = work.num_trained * trained_size
    weights = weight_bytes(work)
    optimizer = work.num_trained * work.optimizer_bytes
    communication = gradients if num > 1 else 0  # the buckets of plain data parallelism
    if stage:
        # A float32 copy of the weights and two moments, one part on each process.
        optimizer = 0 if work.sharding.is_optimizer_offloaded else work.num_trained * 12 // num
        communication = 2 * work.sharding.bucket * trained_size
    if stage >= 2:
        gradients //= num
    if stage == 3:
        communication += min(work.sharding.live, work.shape.num_parameters) * size.weights
        weights = 0 if work.sharding.are_weights_offloaded else weights // num
    return {
        "weights": weights,
        "gradients": gradients,
        "optimizer": optimizer,
        "communication": communication,
    }


def weight_bytes(work: Workload) -> int:
    """Return the bytes of all weights, before they are spread over processes."""
    shape, size = work.shape, work.size
    base = shape.num_parameters * size.weights
    if work.weight_bits != 16:
        saved = size.weights - BYTES_PER_WEIGHT[work.weight_bits]
        base -= round(shape.num_linear_weights * saved)
    adapter = work.num_trained * size.adapter if work.adapter else 0
    return base + adapter + (base if work.has_reference else 0)


def cast_weights(work: Workload) -> int:
    """Return the bytes of the bfloat16 copies that autocast makes of float32 weights."""
    size, copies = work.size, 0
    if size.weights != size.compute:
        copies += work.shape.num_linear_weights
    if work.adapter and size.adapter != size.adapter_compute:
        copies += work.num_trained
    return copies * size.compute


def dequantised(work: Workload) -> int:
    """Return the bytes of the one linear layer that is in 16 bits while it is used."""
    largest = max(linear.inputs * linear.outputs for linear in work.shape.linears)
    return largest * work.size.compute if work.weight_bits != 16 else 0


def step_bytes(work: Workload) -> int:
    """Return the bytes that only the optimizer's step needs: DeepSpeed's float32 gradients."""
    if not work.sharding.stage or work.sharding.is_optimizer_offloaded:
        return 0
    return work.num_trained * FLOAT32 // work.num_processes
