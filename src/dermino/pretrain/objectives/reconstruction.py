"""Masked autoencoding: the pixels of hidden patches."""

from __future__ import annotations

import torch

_EPSILON = 1e-6


def patchify(images: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut (B, 3, H, W) images into (B, N, 3 P P) patches, row by row."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.view(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def reconstruction_loss(
    predicted: torch.Tensor, patches: torch.Tensor, normalise: bool = True
) -> torch.Tensor:
    r"""Return the mean squared error over masked patches (He et al. 2022, section 3).

    .. math:: L = \frac{1}{M} \sum_{i \in masked} \frac{1}{3P^2}
        \left\lVert \hat x_i - \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + 10^{-6}}} \right\rVert^2

    Mean and (unbiased) variance are those of each patch; without ``normalise`` the pixels are
    compared as they are.

    Parameters
    ----------
    predicted, patches:
        (..., 3 P P), the masked patches only.
    """
    predicted, target = predicted.float(), patches.float()
    if normalise:
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        target = (target - mean) / (variance + _EPSILON).sqrt()
    return (predicted - target).square().mean()
