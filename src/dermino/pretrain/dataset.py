"""From a position in the run to a batch of views: decoding, crops, masks and targets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dermino.data.images import (
    UnreadableImage,
    decode,
    open_image,
    read_bytes,
    upright_size,
)
from dermino.data.manifest import Manifest
from dermino.data.shard_cache import reader
from dermino.knowledge.encoded_labels import EncodedLabels
from dermino.pretrain.batch import Collate, Sample
from dermino.pretrain.config import DataConfig
from dermino.pretrain.interruption import heed_only_the_parent
from dermino.pretrain.order import Order
from dermino.pretrain.streams import Stream, generator
from dermino.pretrain.views.crops import Crop, cut, draw_crop, sufficient_side
from dermino.pretrain.views.masking import (
    BlockMasking,
    FixedMasking,
    block_mask,
    fixed_mask,
    masked_patch_targets,
)
from dermino.pretrain.views.photometric import NUM_PARAMETERS, draw_photometric
from dermino.pretrain.views.view import View, Views

# An image that cannot be read is replaced by another one this often before the run gives up.
REPLACEMENTS = 20


class PretrainDataset(Dataset[Sample]):
    """Views by position: position p is sample p % B of step p // B.

    Parameters
    ----------
    manifest:
        The images.
    views:
        What to make of them.
    patch_size:
        Patch side of the backbone, pixels.
    batch_size:
        Images of one step over all devices.
    seed:
        Seed of the run.
    data:
        The order of the images, and where those behind URLs are kept.
    """

    def __init__(
        self,
        manifest: Manifest,
        views: Views,
        patch_size: int,
        batch_size: int,
        seed: int,
        data: DataConfig | None = None,
    ) -> None:
        data = data or DataConfig()
        self.manifest = manifest
        self.order = Order(manifest, data, seed)
        self.read = reader(data.cache, data.cache_gib)
        self.views = views
        self.grid = (views.global_views[0].size // patch_size,) * 2
        self.batch_size = batch_size
        self.seed = seed

    def row(self, position: int) -> int:
        """Return the manifest row shown at a position."""
        return self.order.row(position)

    def __getitem__(self, position: int) -> Sample:
        """Make the views of a position, from another image where its own cannot be read.

        Giving up is a value, not an error: from a loader's process errors arrive with a traceback
        for a message.
        """
        row = self.row(position)
        unreadable: list[int] = []
        random: np.random.Generator | None = None
        while True:
            try:
                return self._sample(position, row, unreadable)
            except UnreadableImage as error:
                unreadable.append(row)
                if len(unreadable) > REPLACEMENTS:
                    return self._blank(position, unreadable, error.message)
                random = random or generator(self.seed, Stream.REPLACEMENT, position)
                row = int(random.integers(len(self.manifest)))

    def _sample(self, position: int, row: int, unreadable: list[int]) -> Sample:
        path = self.manifest.path(row)
        data = read_bytes(path, self.read)
        picture = open_image(data, path)
        size = upright_size(picture)
        random = generator(self.seed, Stream.SAMPLE, position)
        global_crops, global_photometric = _draw(size, self.views.global_views, random)
        local_crops, local_photometric = _draw(size, self.views.local_views, random)
        masks = self._masks(position, random)
        # Drawn first, the crops say how small a photograph may be decoded without enlarging any.
        image = decode(picture, data, path, sufficient_side([*global_crops, *local_crops]))
        return Sample(
            global_crops=cut(image, global_crops),
            local_crops=cut(image, local_crops),
            global_photometric=torch.from_numpy(global_photometric),
            local_photometric=torch.from_numpy(local_photometric),
            masks=torch.from_numpy(masks),
            row=row,
            unreadable=tuple(unreadable),
            failure="",
        )

    def _blank(self, position: int, unreadable: list[int], failure: str) -> Sample:
        """Return a sample of the right shape that says why there is none."""
        global_views, local_views = self.views.global_views, self.views.local_views
        random = generator(self.seed, Stream.SAMPLE, position)
        return Sample(
            global_crops=_black(global_views),
            local_crops=_black(local_views),
            global_photometric=torch.zeros(len(global_views), NUM_PARAMETERS),
            local_photometric=torch.zeros(len(local_views), NUM_PARAMETERS),
            masks=torch.from_numpy(self._masks(position, random)),
            row=unreadable[-1],
            unreadable=tuple(unreadable),
            failure=failure,
        )

    def _masks(self, position: int, random: np.random.Generator) -> np.ndarray:
        """Return the (global crops, N_p) masks of a sample; N_p = 0 where nothing is masked."""
        masking, crops = self.views.masking, len(self.views.global_views)
        if masking is None:
            return np.zeros((crops, 0), dtype=bool)
        if isinstance(masking, FixedMasking):
            return np.stack([fixed_mask(self.grid, masking, random) for _ in range(crops)])
        step, place = divmod(position, self.batch_size)
        num_patches = self.grid[0] * self.grid[1]
        targets = _mask_targets(self.seed, step, crops * self.batch_size, num_patches, masking)
        masks = [
            block_mask(self.grid, int(targets[crop * self.batch_size + place]), random).ravel()
            for crop in range(crops)
        ]
        return np.stack(masks)


def _draw(
    size: tuple[int, int], views: tuple[View, ...], random: np.random.Generator
) -> tuple[list[Crop], np.ndarray]:
    """Draw the crops of an image of (height, width) and their (V, 9) colour parameters."""
    crops, photometric = [], np.empty((len(views), NUM_PARAMETERS), dtype=np.float32)
    for place, view in enumerate(views):
        crops.append(draw_crop(size, view.size, view.scale, random))
        photometric[place] = draw_photometric(view.photometric, random)
    return crops, photometric


def _black(views: tuple[View, ...]) -> torch.Tensor:
    size = views[0].size if views else 0
    return torch.zeros(len(views), 3, size, size, dtype=torch.uint8)


@lru_cache(maxsize=4)
def _mask_targets(
    seed: int, step: int, num_crops: int, num_patches: int, masking: BlockMasking
) -> np.ndarray:
    random = generator(seed, Stream.MASK_TARGETS, step)
    return masked_patch_targets(num_crops, num_patches, masking.probability, masking.ratio, random)


class StepSampler(Sampler[list[int]]):
    """The positions of this process's share of every step that is left.

    Parameters
    ----------
    first_step, last_step:
        Steps to run, the last one excluded.
    batch_size:
        Images of one step over all processes.
    rank, world_size:
        Which share.
    """

    def __init__(
        self, first_step: int, last_step: int, batch_size: int, rank: int, world_size: int
    ) -> None:
        self.steps = range(first_step, last_step)
        self.batch_size = batch_size
        share = batch_size // world_size
        self.share = range(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield [step * self.batch_size + place for place in self.share]

    def __len__(self) -> int:
        return len(self.steps)


def build_loader(
    dataset: PretrainDataset,
    labels: EncodedLabels | None,
    sampler: StepSampler,
    workers: int,
    pin_memory: bool,
) -> DataLoader[Sample]:
    """Return a loader that yields a :class:`Batch` for each step of the sampler."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=Collate(labels),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=heed_only_the_parent,
    )
