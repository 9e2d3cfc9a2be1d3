"""Contrast with the keys of the same batch, as in MoCo v3."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from dermino.pretrain.distributed import all_gather, rank


def contrastive_loss(
    queries: torch.Tensor, keys: torch.Tensor, temperature: float = 0.2
) -> torch.Tensor:
    r"""Return InfoNCE over the keys of all processes (Chen, Xie and He 2021, Eq. 1 and Alg. 1).

    .. math:: L = -2\tau \frac{1}{B} \sum_i
        \log \frac{\exp(q_i \cdot k_i / \tau)}{\sum_j \exp(q_i \cdot k_j / \tau)}

    Queries and keys are L2-normalised here. The factor 2 tau is the paper's.

    Parameters
    ----------
    queries:
        (B, D) of one view.
    keys:
        (B, D) of the other view, from the momentum encoder; no gradient reaches them.
    temperature:
        tau.
    """
    queries = F.normalize(queries.float(), dim=1)
    keys = all_gather(F.normalize(keys.detach().float(), dim=1))
    positives = torch.arange(len(queries), device=queries.device) + rank() * len(queries)
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries @ keys.T
    entropy = F.cross_entropy(scores / temperature, positives)
    return 2 * temperature * entropy
