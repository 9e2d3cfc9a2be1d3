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
        """Return (B, K) probabilities of (B, K) logits and update the centre.

        They are float32, or float64 of float64 logits. The new mean is that of all rows of all
        processes, however unequally they are spread.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        probabilities = torch.softmax((logits - self.center) / temperature, dim=-1)
        total = all_reduce_sum(logits.sum(dim=0, keepdim=True))
        count = all_reduce_sum(total.new_tensor(float(len(logits))))
        mean = (total / count.clamp(min=1)).to(self.center.dtype)
        moved = self.center.lerp(mean, 1 - self.momentum)
        # Chosen on the device: looking at the count would make it wait.
        self.center.copy_(torch.where(count > 0, moved, self.center))
        return probabilities
