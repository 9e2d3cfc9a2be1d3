"""Memory that steps on a CPU hand on to each other, as PyTorch's own cache does on GPUs."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Of glibc's mallopt(3): name, value while kept, value by default.
_TRIM_THRESHOLD = (-1, -1, 128 * 1024)
_MMAP_MAX = (-4, 0, 65536)


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Keep what a step frees for the next one, which needs just as much, until the block ends.

    By default glibc gives large tensors back to the system at once, which clears their pages and
    maps them anew in the next step. Nothing happens on GPUs or with another C library.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" and device.type == "cpu" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    for name, kept, _ in (_TRIM_THRESHOLD, _MMAP_MAX):
        library.mallopt(name, kept)
    try:
        yield
    finally:
        for name, _, default in (_TRIM_THRESHOLD, _MMAP_MAX):
            library.mallopt(name, default)
        library.malloc_trim(0)
