"""What a run needs of a GPU's memory, and recomputing as little as fits: see docs/memory.md.

workload says what a process will do, activations what each layer keeps for it, estimate sums it
up, recompute binds a model to the plan; `python -m medtune.training.memory` prints it.
"""
