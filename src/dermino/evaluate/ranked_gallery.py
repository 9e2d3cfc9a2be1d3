"""How well a ranking of the gallery by similarity puts images of a query's own class first."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from dermino.evaluate.pooled import PooledScore

_BLOCK_VALUES = 2**24


def ranking_scores(
    queries: torch.Tensor,
    query_targets: torch.Tensor,
    gallery: torch.Tensor,
    gallery_targets: torch.Tensor,
    k: int,
) -> dict[str, PooledScore]:
    """Judge the ranking of the whole gallery for each query; relevant is what has its class.

    Parameters
    ----------
    queries, gallery:
        Shapes (m, D) and (n, D), float32, on one device.
    query_targets, gallery_targets:
        Their classes, (m,) and (n,) int64.
    k:
        Where the list is cut, at most n.

    Returns
    -------
    dict of PooledScore
        ``hit_rate_at_k``: whether a relevant image is among the first k (called recall@k in
        metric learning). ``recall_at_k``: share of all relevant images among them.
        ``mean_average_precision``: mean, over the relevant images, of the precision down to their
        rank, in the whole gallery. As torchmetrics' RetrievalHitRate, RetrievalRecall and
        RetrievalMAP; a query whose class the gallery lacks is undefined.
    """
    gallery = F.normalize(gallery, dim=1)
    ranks = torch.arange(1, len(gallery) + 1, device=gallery.device, dtype=torch.float64)
    hit, recall, precision = [], [], []
    size = max(1, _BLOCK_VALUES // len(gallery))
    for block, targets in zip(queries.split(size), query_targets.split(size), strict=True):
        order = (F.normalize(block, dim=1) @ gallery.T).argsort(dim=1, descending=True, stable=True)
        relevant = gallery_targets[order] == targets[:, None]
        total = relevant.sum(dim=1)
        found = relevant.cumsum(dim=1)
        whole = total.double()  # 0 / 0 below is NaN, which is undefined.
        hit.append(torch.where(total > 0, (found[:, k - 1] > 0).double(), torch.nan))
        recall.append(found[:, k - 1] / whole)
        precision.append((found / ranks * relevant).sum(dim=1) / whole)
    values = {
        f"hit_rate_at_{k}": (f"Hit rate at {k}", hit),
        f"recall_at_{k}": (f"Recall at {k}", recall),
        "mean_average_precision": ("Mean average precision (ranking)", precision),
    }
    return {
        name: PooledScore.mean(title, np.concatenate([part.cpu().numpy() for part in parts]))
        for name, (title, parts) in values.items()
    }
