"""Softmax centring: the older alternative to Sinkhorn-Knopp."""

from __future__ import annotations

import torch
from torch import nn

from dermino.pretrain.distributed import all_reduce_sum


class SoftmaxCentering(nn.Module):
    """Teacher softmax around a moving mean of its logits, as in DINO.

    softmax((logits - center) / T); the centre follows the batch mean with momentum and takes
    effect one call later, so a batch never sees its own mean.

    Parameters
    ----------
    num_prototypes:
        K, the width of the logits.
    momentum:
        Share of the old centre kept at each call.
    """

    center: torch.Tensor

    def __init__(self, num_prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(1, num_prototypes))

    @torch.no_grad()
    def forward(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Return (B, K) float32 probabilities of (B, K) logits and update the centre."""
        logits = logits.float()
        probabilities = torch.softmax((logits - self.center) / temperature, dim=-1)
        total = all_reduce_sum(logits.sum(dim=0, keepdim=True))
        count = all_reduce_sum(torch.tensor(float(len(logits)), device=logits.device))
        if count > 0:
            self.center.lerp_(total / count, 1 - self.momentum)
        return probabilities
