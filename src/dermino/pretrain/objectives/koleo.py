"""KoLeo regulariser: features spread out over the sphere."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from dermino.pretrain.distributed import all_gather_with_gradient, rank

_EPSILON = 1e-8


def koleo_loss(features: torch.Tensor, gather: bool = False) -> torch.Tensor:
    r"""Return the Kozachenko-Leonenko term of a batch of features (paper section 4.1.2).

    .. math:: L = -\frac{1}{B} \sum_i \log(\lVert x_i - x_{n(i)} + \epsilon \rVert_2 + \epsilon)

    over L2-normalised features, n(i) being the nearest other one and epsilon 1e-8, as in DINOv2,
    where a row's cosine with itself counts as -1 (so with one other row, exactly opposite, it may
    be taken for its own neighbour).
    Always float32: in half precision two equal rows give an infinite loss.

    Parameters
    ----------
    features:
        (B, D) class tokens of one global crop, before any head. Without any other row there is no
        neighbour, and the loss is zero.
    gather:
        Look for neighbours among the rows of all processes, not only this one's as DINOv2 does;
        the loss then does not depend on how a batch is divided. B must be equal everywhere.
    """
    with torch.autocast(features.device.type, enabled=False):
        normalised = F.normalize(features.float(), dim=-1, eps=_EPSILON)
        others = all_gather_with_gradient(normalised) if gather else normalised
        if len(others) < 2:
            return normalised.sum() * 0.0
        with torch.no_grad():
            similarity = normalised @ others.T
            own = torch.arange(len(features), device=features.device)
            similarity[own, own + (rank() * len(features) if gather else 0)] = -1
            neighbour = similarity.argmax(dim=1)
        distance = F.pairwise_distance(normalised, others[neighbour], p=2, eps=_EPSILON)
        return -torch.log(distance + _EPSILON).mean()
