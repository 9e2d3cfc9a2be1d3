"""Sinkhorn-Knopp: teacher scores such that every prototype is used equally often."""

from __future__ import annotations

import torch

from dermino.pretrain.distributed import all_reduce_max, all_reduce_sum, world_size


@torch.no_grad()
def sinkhorn_knopp(
    logits: torch.Tensor, temperature: float, iterations: int = 3, count: int | None = None
) -> torch.Tensor:
    """Turn teacher logits into assignments with uniform prototype use.

    Q = exp(logits / T) is scaled alternately so that each prototype receives 1/K and each sample
    gives 1/B of the mass, over the samples of all processes; the last scaling is by sample, so
    every row of the result sums to one. Paper section 4.1.2 (reference [43] there); three
    iterations in float32 as in DINOv2. The largest logit is subtracted first: it cancels in the
    first normalisation and keeps exp() finite at any temperature.

    Parameters
    ----------
    logits:
        (B, K) teacher scores of this process.
    temperature:
        Teacher temperature.
    iterations:
        Number of row and column scalings.
    count:
        Number of samples over all processes; default B times the number of processes. Must be
        given where processes hold different numbers of samples (masked patches).

    Returns
    -------
    (B, K) float32; rows sum to one.
    """
    scores = logits.float() / temperature
    peak = scores.max() if len(scores) else scores.new_full((), -torch.inf)
    scores = torch.exp(scores - all_reduce_max(peak))
    samples = count if count is not None else scores.shape[0] * world_size()
    prototypes = scores.shape[1]
    scores /= all_reduce_sum(scores.sum())
    for _ in range(iterations):
        scores /= all_reduce_sum(scores.sum(dim=0, keepdim=True)) * prototypes
        scores /= scores.sum(dim=1, keepdim=True) * samples
    return scores * samples
