"""Teachers and key encoders: moving averages of what is trained."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, trained: nn.Module, momentum: float) -> None:
    """Move every parameter of a copy towards the original: t = m t + (1 - m) s, in place."""
    targets: list[torch.Tensor] = list(average.parameters())
    sources: list[torch.Tensor] = list(trained.parameters())
    torch._foreach_lerp_(targets, sources, 1 - momentum)
