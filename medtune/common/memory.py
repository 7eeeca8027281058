"""How much memory a process has used."""

import resource
import sys

import torch


def peak_memory_bytes() -> int:
    """Return the most memory that was in use: by tensors on its GPU, else by the whole process."""
    on_gpu = torch.cuda.max_memory_allocated()  # 0 where none was used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return on_gpu or peak * (1 if sys.platform == "darwin" else 1024)  # Linux counts in KiB
