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

    As DINOv2 does (block.py), rates above 0.1 compute each branch for int(B (1 - rate)) of the
    batch's B images, scaled by the inverse of their share; smaller ones drop every image on its
    own. DINOv2 draws that subset on each device. Here it is drawn over all devices, among
    neighbours of 16, which gives every device the same number of images and each crop the same
    paths however the batch is divided.

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
        keep = self._keep(number, batch_size, share, sum(crops))
        if self.rate > _SINGLE_UP_TO:
            scale = batch_size / _kept(batch_size, self.rate)
        else:
            scale = 1 / (1 - self.rate)
        groups = np.split(keep, np.cumsum(crops)[:-1], axis=1)
        return [self._paths(group, scale, device) for group in groups]

    def _keep(self, number: int, batch_size: int, share: range, crops: int) -> np.ndarray:
        """Return (branches, crops, images of the share) bool."""
        edges = np.arange(share.start // _NEIGHBOURS, -(-share.stop // _NEIGHBOURS) + 1)
        shape = (len(edges) - 1, crops, 2 * self.num_blocks, _NEIGHBOURS)
        philox = generator(self.seed, Stream.PATHS, number).bit_generator
        assert isinstance(philox, np.random.Philox)
        # Skips what belongs to the images before; Philox makes four numbers at a time.
        philox.advance(int(edges[0]) * int(np.prod(shape[1:])) // 4)
        draws = np.random.Generator(philox).random(shape)
        edges = edges * _NEIGHBOURS
        if self.rate > _SINGLE_UP_TO:
            ends = np.minimum(edges, batch_size).tolist()
            kept = np.diff([_kept(end, self.rate, batch_size) for end in ends])
            draws[-1, ..., batch_size - edges[-2] :] = np.inf
            largest = np.insert(np.sort(draws), 0, -np.inf, axis=-1)
            keep = draws <= np.take_along_axis(largest, kept.reshape(-1, 1, 1, 1), axis=-1)
        else:
            keep = draws >= self.rate
        images = keep.transpose(2, 1, 0, 3).reshape(2 * self.num_blocks, crops, -1)
        return images[..., share.start - edges[0] :][..., : len(share)]

    @staticmethod
    def _paths(keep: np.ndarray, scale: float, device: torch.device) -> Paths:
        branches, rows = keep.reshape(len(keep), -1).nonzero()
        counts = np.bincount(branches, minlength=len(keep)).tolist()
        return Paths(torch.from_numpy(rows).to(device).split(counts), scale)


def _kept(images: int, rate: float, batch_size: int | None = None) -> int:
    """How many of the first ``images`` of a batch take a branch; of a whole one at least one."""
    whole = batch_size is None or images == batch_size
    return max(int(images * (1 - rate)), int(whole))
