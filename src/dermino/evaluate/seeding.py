"""Random numbers that depend on a key alone, so that interrupted training goes on exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Draw random numbers by ``key`` alone, and leave the generators of others as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        yield


@contextmanager
def seeded_libraries(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and PyTorch, which libraries draw from, and put their states back."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - timm draws from it.
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
