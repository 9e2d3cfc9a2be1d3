"""Latent alignment: a student's latents point where a frozen teacher's features do."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def alignment_loss(latents: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    r"""Return the cosine distance of CAE v2 and PanDerm, averaged over tokens.

    .. math:: L = \frac{1}{N} \sum_i \left( 1 - \frac{z_i \cdot t_i}
        {\lVert z_i \rVert \lVert t_i \rVert} \right)

    Parameters
    ----------
    latents:
        (..., D) of the student.
    features:
        (..., D) of the teacher, of the same patches; no gradient reaches them.
    """
    similarity = F.cosine_similarity(latents.float(), features.detach().float(), dim=-1)
    return (1 - similarity).mean()
