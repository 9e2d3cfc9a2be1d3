"""Swapped prediction: each view predicts the cluster assignment of another one."""

from __future__ import annotations

import torch

from dermino.pretrain.objectives.cross_entropy import prototype_cross_entropy


def swapped_prediction_loss(
    scores: torch.Tensor, assignments: torch.Tensor, temperature: float = 0.1
) -> torch.Tensor:
    r"""Return SwAV's loss (Caron et al. 2020, Eq. 2 and Eq. 6), averaged over pairs and the batch.

    .. math:: L = -\frac{1}{2(V-1)} \sum_{i=1}^{2} \sum_{v \neq i} \sum_k
        q_i^{(k)} \log softmax(z_v^\top C / \tau)^{(k)}

    Parameters
    ----------
    scores:
        (V, B, K) products of embeddings and prototypes; the first two views are the global ones.
    assignments:
        (2, B, K) Sinkhorn-Knopp codes of the global views, rows summing to one.
    temperature:
        tau.
    """
    pairs = [
        prototype_cross_entropy(scores[view], code, temperature).mean()
        for i, code in enumerate(assignments)
        for view in range(len(scores))
        if view != i
    ]
    return torch.stack(pairs).mean()
