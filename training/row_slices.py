"""Goes through a batch of K = 50,030 classes a few rows at a time.

A chain of simple operations on the whole of [512, 50030] float32 reads and writes 100 MB at each link; on a
few rows at a time, only the first link reads memory and the last one writes it, the others stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CPU_ELEMENTS = 2**18  # 1 MB of float32 a thread: two of them fit into a core's second-level cache
_ACCELERATOR_ELEMENTS = 2**24  # 64 MB: small beside the memory, large beside what starting a kernel costs


def row_slices(values: Tensor) -> Iterator[slice]:
    """Yield slices that together cover the rows of `values` [B, K] in order; one empty slice where B is 0."""
    on_cpu = values.device.type == "cpu"
    elements = _CPU_ELEMENTS * torch.get_num_threads() if on_cpu else _ACCELERATOR_ELEMENTS
    num_rows, width = values.shape
    step = max(1, elements // max(1, width))
    for start in range(0, max(1, num_rows), step):
        yield slice(start, min(start + step, num_rows))
