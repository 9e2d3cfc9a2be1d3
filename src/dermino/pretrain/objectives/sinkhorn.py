"""Sinkhorn-Knopp: teacher scores such that every prototype is used equally often."""

from __future__ import annotations

import torch

from dermino.pretrain.distributed import all_reduce_max, all_reduce_sum

_TINY = 1e-30


@torch.no_grad()
def sinkhorn_knopp(logits: torch.Tensor, temperature: float, iterations: int = 3) -> torch.Tensor:
    """Turn teacher logits into assignments with uniform prototype use.

    Q = exp(logits / T) is scaled alternately so that each prototype receives 1/K and each sample
    gives 1/B of the mass, over the samples of all processes; the last scaling is by sample, so
    every row of the result sums to one. Paper section 4.1.2 (reference [43] there); three
    iterations in float32 as in DINOv2.

    Only the two scaling vectors change from iteration to iteration, so Q itself is written once
    and read by matrix-vector products; 1/K and 1/B cancel. Each prototype's largest logit is taken
    out of Q, which its first scaling would undo, then each sample's, which stays in the sample's
    scale. So the largest entry of every row and column is 1: no logits are too large or far apart.

    Parameters
    ----------
    logits:
        (B, K) teacher scores of this process; B may differ between processes, and be 0.
    temperature:
        Teacher temperature.
    iterations:
        Number of prototype and sample scalings.

    Returns
    -------
    (B, K) float32; rows sum to one.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scores = logits.float() / temperature
        width = scores.shape[1]
        best = scores.amax(dim=0) if len(scores) else scores.new_full((width,), -torch.inf)
        scores.sub_(all_reduce_max(best))
        peaks = scores.amax(dim=1)
        mass = scores.sub_(peaks.unsqueeze(1)).exp_()
        samples = peaks.exp()
        prototypes = mass.new_ones(width)
        for _ in range(iterations):
            prototypes = 1 / all_reduce_sum(samples @ mass).clamp_(min=_TINY)
            samples = 1 / (mass @ prototypes).clamp_(min=_TINY)
        return mass.mul_(prototypes).mul_(samples.unsqueeze(1))
