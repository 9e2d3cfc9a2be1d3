"""How many directions features fill, and how far apart they lie."""

from __future__ import annotations

import torch
from torch.nn import functional as F


@torch.no_grad()
def feature_rank(features: torch.Tensor) -> float:
    r"""Return the effective rank of features (RankMe; Garrido et al. 2023, Eq. 1).

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \quad
        p_k = \sigma_k / \textstyle\sum_j \sigma_j

    with the singular values sigma of the features as they are. It lies between 1, where all
    features are multiples of one another (or nothing), and min(n, D).

    Parameters
    ----------
    features:
        (n, D).
    """
    rows = features.double()
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    shares = singular / singular.sum().clamp(min=torch.finfo(singular.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp())


@torch.no_grad()
def feature_spread(features: torch.Tensor) -> float:
    """Return the deviation of L2-normalised features, relative to that of a uniform sphere.

    The mean over dimensions of their standard deviation, times sqrt(D): 0 where all features point
    the same way, about 1 where they point everywhere (Chen and He 2021, section 4.1).

    Parameters
    ----------
    features:
        (n, D).
    """
    directions = F.normalize(features.double(), dim=1)
    deviation = directions.std(dim=0, correction=0).mean()
    return float(deviation * features.shape[1] ** 0.5)


@torch.no_grad()
def mean_cosine(features: torch.Tensor) -> float:
    """Return the mean cosine of all pairs of different rows of (n, D) features, n at least 2."""
    directions = F.normalize(features.double(), dim=1)
    count = len(directions)
    together = directions.sum(dim=0).square().sum()
    return float((together - directions.square().sum()) / (count * (count - 1)))
