"""KoLeo regulariser: features spread out over the sphere."""

from __future__ import annotations

import torch
from torch.nn import functional as F

_EPSILON = 1e-8


def koleo_loss(features: torch.Tensor) -> torch.Tensor:
    r"""Return the Kozachenko-Leonenko term of a batch of features (paper section 4.1.2).

    .. math:: L = -\frac{1}{B} \sum_i \log(\lVert x_i - x_{n(i)} + \epsilon \rVert_2 + \epsilon)

    over L2-normalised features, n(i) being the nearest other one and epsilon 1e-8, as in DINOv2.
    Always float32: in half precision two equal rows give an infinite loss.

    Parameters
    ----------
    features:
        (B, D) class tokens of one global crop, before any head. B < 2 has no neighbour: zero.
    """
    if len(features) < 2:
        return features.float().sum() * 0.0
    with torch.autocast(features.device.type, enabled=False):
        normalised = F.normalize(features.float(), dim=-1, eps=_EPSILON)
        with torch.no_grad():
            similarity = normalised @ normalised.T
            similarity.fill_diagonal_(-1)
            neighbour = similarity.argmax(dim=1)
        distance = F.pairwise_distance(normalised, normalised[neighbour], p=2, eps=_EPSILON)
        return -torch.log(distance + _EPSILON).mean()
