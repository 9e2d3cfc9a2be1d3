"""Lightning's Fabric, imported without what it does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Fabric", "ModelParallelStrategy"]


@contextmanager
def _not_installed(name: str) -> Iterator[None]:
    """Let a package not yet imported look as if it were not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


# Fabric imports torchmetrics, and with it transformers, scipy.signal and matplotlib, to read the
# version that its detection of loss spikes would need: 2 to 3 s of each start, for nothing.
with _not_installed("torchmetrics"):
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import ModelParallelStrategy
