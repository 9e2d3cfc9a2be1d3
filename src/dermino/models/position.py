"""Position embeddings of another image size, resized as DINOv2 does."""

from __future__ import annotations

import torch
from torch.nn import functional as F

# Added to the grid before dividing, so that rounding never loses a row.
_OFFSET = 0.1


def resize_position(
    position: torch.Tensor, prefix: int, old: tuple[int, int], new: tuple[int, int]
) -> torch.Tensor:
    """Return a table of position embeddings for another grid of patches.

    Bicubic without antialiasing, the scale slightly too large, as DINOv2's models without register
    tokens were trained (vision_transformer.py, ``interpolate_offset`` 0.1).

    Parameters
    ----------
    position:
        (1, prefix + rows * columns, D), first the entries of tokens that are no patches.
    prefix:
        How many those are.
    old, new:
        Rows and columns of the table, and of what is wanted.
    """
    if old == new:
        return position
    grid = position[:, prefix:].unflatten(1, old).permute(0, 3, 1, 2)
    scale = ((new[0] + _OFFSET) / old[0], (new[1] + _OFFSET) / old[1])
    grid = F.interpolate(grid.float(), scale_factor=scale, mode="bicubic", antialias=False)
    return torch.cat([position[:, :prefix], grid.flatten(2).transpose(1, 2)], dim=1)
