"""Which patches of which crops the student does not see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_MIN_BLOCK = 4
_MIN_ASPECT = 0.3
_TRIES = 10


@dataclass(frozen=True)
class BlockMasking:
    """iBOT's masking: blocks in some of the crops, sizes dealt out over the whole step.

    Parameters
    ----------
    probability:
        Share of the crops that are masked.
    ratio:
        Range of the masked share of their patches.
    """

    probability: float
    ratio: tuple[float, float]


@dataclass(frozen=True)
class FixedMasking:
    """The same number of patches of every crop, so that the rest can be batched.

    Parameters
    ----------
    ratio:
        Share of the patches that is masked.
    blocks:
        Mask rectangles (BEiT, CAE) instead of single patches (MAE).
    """

    ratio: float
    blocks: bool = False

    def count(self, num_patches: int) -> int:
        """Return how many of a crop's patches are masked: all but int(N (1 - ratio))."""
        return num_patches - int(num_patches * (1 - self.ratio))


def fixed_mask(
    grid: tuple[int, int], masking: FixedMasking, generator: np.random.Generator
) -> np.ndarray:
    """Mask exactly ``masking.count`` patches of a grid.

    Blocks that fall short of the number are filled up with single patches, as in CAE.

    Returns
    -------
    (rows * columns,) bool.
    """
    count = masking.count(grid[0] * grid[1])
    if masking.blocks:
        mask = block_mask(grid, count, generator).ravel()
    else:
        mask = np.zeros(grid[0] * grid[1], dtype=bool)
    left = np.flatnonzero(~mask)
    mask[generator.choice(left, count - int(mask.sum()), replace=False)] = True
    return mask


def masked_patch_targets(
    num_crops: int,
    num_patches: int,
    probability: float,
    ratio: tuple[float, float],
    generator: np.random.Generator,
) -> np.ndarray:
    """Decide how many patches of each crop of a batch are to be masked.

    int(crops * probability) crops are masked; the i-th of them draws its share from the i-th of
    equal slices of ``ratio``; then all crops are shuffled (DINOv2's collate).

    Parameters
    ----------
    num_crops:
        Global crops of the whole batch, over all devices.
    num_patches:
        Patches of a crop.

    Returns
    -------
    (num_crops,) int64, 0 = not masked.
    """
    masked = int(num_crops * probability)
    edges = np.linspace(ratio[0], ratio[1], masked + 1)
    targets = np.zeros(num_crops, dtype=np.int64)
    targets[:masked] = (num_patches * generator.uniform(edges[:-1], edges[1:])).astype(np.int64)
    return generator.permutation(targets)


def block_mask(
    grid: tuple[int, int], target: int, generator: np.random.Generator, max_ratio: float = 0.5
) -> np.ndarray:
    """Mask about ``target`` patches of a grid with rectangular blocks.

    A block has at least four patches (or what is left of the target), at most those of
    int(``max_ratio`` rows) whole rows, as in DINOv2, and an aspect ratio drawn log-uniformly from
    0.3 to 1/0.3. Blocks are added until the target is met or ten draws in a row fit nowhere.

    Parameters
    ----------
    grid:
        Rows and columns.
    target:
        Number of patches to mask.

    Returns
    -------
    (rows, columns) bool with at most ``target`` True.
    """
    rows, columns = grid
    mask = np.zeros(grid, dtype=bool)
    largest = int(max_ratio * rows) * columns
    low, high = math.log(_MIN_ASPECT), math.log(1 / _MIN_ASPECT)
    count = 0
    while count < target:
        allowed = min(target - count, largest)
        for _ in range(_TRIES):
            area = _MIN_BLOCK + (allowed - _MIN_BLOCK) * generator.random()
            aspect = math.exp(generator.uniform(low, high))
            height = round(math.sqrt(area * aspect))
            width = round(math.sqrt(area / aspect))
            if width >= columns or height >= rows:
                continue
            top = int(generator.integers(0, rows - height + 1))
            left = int(generator.integers(0, columns - width + 1))
            block = mask[top : top + height, left : left + width]
            added = height * width - int(block.sum())
            if 0 < added <= allowed:
                block[:] = True
                count += added
                break
        else:
            break
    return mask
