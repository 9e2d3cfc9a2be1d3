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
    and read by matrix-vector products; 1/K and 1/B cancel. Each row's largest logit is taken out
    of Q and kept in the row's scale, which leaves the iteration as it is and exp() finite.

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
        peaks = scores.amax(dim=1)
        largest = peaks.max() if len(peaks) else peaks.new_full((), -torch.inf)
        mass = scores.sub_(peaks.unsqueeze(1)).exp_()
        samples = torch.exp(peaks - all_reduce_max(largest))
        prototypes = mass.new_ones(mass.shape[1])
        for _ in range(iterations):
            prototypes = 1 / all_reduce_sum(samples @ mass).clamp_(min=_TINY)
            samples = 1 / (mass @ prototypes).clamp_(min=_TINY)
        return mass.mul_(prototypes).mul_(samples.unsqueeze(1))
