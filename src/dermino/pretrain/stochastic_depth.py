"""Who takes which residual branch: drawn by a crop's place in the run, not by its process."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from dermino.models.stochastic_depth import Paths
from dermino.pretrain.batch import Batch
from dermino.pretrain.streams import Stream, generator

# Up to here DINOv2 drops single images; above, it computes an exact share of the batch.
_SINGLE_UP_TO = 0.1
# Shares are kept within so many neighbours, so that every process has its share of the work.
_NEIGHBOURS = 16


@dataclass(frozen=True)
class StochasticDepth:
    """Draws the :class:`Paths` of all crops of a batch.

    As DINOv2 does (block.py), rates above 0.1 compute each branch for int(B (1 - rate)) of the B
    crops that go through the backbone together, scaled by the inverse of their share; smaller ones
    drop every crop on its own. DINOv2 draws that subset on each device. Here it is drawn over all
    devices, among neighbours of 16 images, which gives every device its share of the work and each
    crop the same paths however the batch is divided.

    Parameters
    ----------
    rate:
        Probability of passing a branch by.
    num_blocks:
        Blocks of two branches each.
    seed:
        Seed of the run.
    """

    rate: float
    num_blocks: int
    seed: int

    def keeps_shapes(self, batch_size: int, processes: int) -> bool:
        """Whether every branch is computed for equally many of a process's images in each step."""
        even = processes == 1 or batch_size // processes % _NEIGHBOURS == 0
        return self.rate == 0 or (self.rate > _SINGLE_UP_TO and even)

    def apply(self, batch: Batch, number: int, rank: int, batch_size: int) -> Batch:
        """Return a process's batch with the paths of its crops.

        Parameters
        ----------
        batch:
            The share of process ``rank``.
        number, batch_size:
            As for :meth:`draw`.
        """
        size = len(batch)
        crops = (len(batch.global_crops) // size, len(batch.local_crops) // size)
        share = range(rank * size, (rank + 1) * size)
        paths = self.draw(number, batch_size, share, crops, batch.global_crops.device)
        return replace(batch, global_paths=paths[0], local_paths=paths[1])

    def draw(
        self,
        number: int,
        batch_size: int,
        share: range,
        crops: tuple[int, ...],
        device: torch.device,
    ) -> list[Paths | None]:
        """Return the paths of several groups of crops of one batch.

        Parameters
        ----------
        number:
            The batch's number in the run.
        batch_size:
            Its images over all processes.
        share:
            Which of them this process has.
        crops:
            Crops of an image in each group, such as global and local ones.
        device:
            Where the rows are needed.

        Returns
        -------
        For each group the paths of its crops, crop after crop; None = all take all.
        """
        if self.rate == 0:
            return [None] * len(crops)
        first, last = share.start // _NEIGHBOURS, -(-share.stop // _NEIGHBOURS)
        ends = np.minimum(np.arange(first, last + 1) * _NEIGHBOURS, batch_size)
        shape = (last - first, sum(crops), 2 * self.num_blocks, _NEIGHBOURS)
        philox = generator(self.seed, Stream.PATHS, number).bit_generator
        assert isinstance(philox, np.random.Philox)
        # Skips what belongs to the images before; Philox makes four numbers at a time.
        philox.advance(first * int(np.prod(shape[1:])) // 4)
        draws = np.random.Generator(philox).random(shape)
        draws[-1, ..., ends[-1] - ends[-2] :] = np.inf
        mine = slice(share.start - int(ends[0]), share.stop - int(ends[0]))
        paths: list[Paths | None] = []
        for group in np.split(draws, np.cumsum(crops)[:-1], axis=1):
            count = group.shape[1]
            if count == 0:
                paths.append(None)
                continue
            kept = self._kept(count * ends, count * batch_size)
            keep = self._keep(group, np.diff(kept))[..., mine]
            scale = (
                count * batch_size / self._kept(np.array(count * batch_size), count * batch_size)
            )
            paths.append(self._paths(keep, scale, device))
        return paths

    def _kept(self, first: np.ndarray, crops: int) -> np.ndarray:
        """How many of the first of a group's crops take a branch; of all of them at least one."""
        if self.rate <= _SINGLE_UP_TO:
            return first * (1 - self.rate)
        return np.maximum((first * (1 - self.rate)).astype(np.int64), first == crops)

    def _keep(self, draws: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return (branches, crops, images) bool.

        Parameters
        ----------
        draws:
            (neighbourhoods, crops, branches, 16) in [0, 1); infinite where there is no image.
        kept:
            (neighbourhoods,) crops of each that take a branch.
        """
        _, crops, branches, _ = draws.shape
        draws = draws.transpose(0, 2, 1, 3)
        if self.rate > _SINGLE_UP_TO:
            together = draws.reshape(len(draws), branches, -1)
            largest = np.insert(np.sort(together), 0, -np.inf, axis=-1)
            limits = np.take_along_axis(largest, kept.reshape(-1, 1, 1), axis=-1)
            keep = draws <= limits[..., None]
        else:
            keep = (draws >= self.rate) & np.isfinite(draws)
        return keep.transpose(1, 2, 0, 3).reshape(branches, crops, -1)

    @staticmethod
    def _paths(keep: np.ndarray, scale: float, device: torch.device) -> Paths:
        branches, rows = keep.reshape(len(keep), -1).nonzero()
        counts = np.bincount(branches, minlength=len(keep)).tolist()
        return Paths(torch.from_numpy(rows).to(device).split(counts), float(scale))
