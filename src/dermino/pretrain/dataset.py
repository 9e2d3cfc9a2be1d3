"""From a position in the run to a batch of views: decoding, crops, masks and targets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dermino.data.images import UnreadableImage, read_image
from dermino.data.manifest import Manifest
from dermino.knowledge.encoded_labels import EncodedLabels
from dermino.pretrain.batch import Collate, Sample
from dermino.pretrain.config import MaskingConfig, ViewsConfig
from dermino.pretrain.streams import Stream, generator
from dermino.pretrain.views.crops import random_resized_crop
from dermino.pretrain.views.masking import block_mask, masked_patch_targets
from dermino.pretrain.views.photometric import (
    NUM_PARAMETERS,
    View,
    draw_photometric,
)

# An image that cannot be read is replaced by another one this often before the run gives up.
REPLACEMENTS = 20


class PretrainDataset(Dataset[Sample]):
    """Views by position: position p is sample p % B of step p // B.

    Parameters
    ----------
    manifest:
        The images.
    views, masking:
        What to make of them.
    patch_size:
        Patch side of the backbone, pixels.
    batch_size:
        Images of one step over all devices.
    seed:
        Seed of the run.
    """

    def __init__(
        self,
        manifest: Manifest,
        views: ViewsConfig,
        masking: MaskingConfig,
        patch_size: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.manifest = manifest
        self.views = views
        self.masking = masking
        self.grid = (views.global_size // patch_size,) * 2
        self.batch_size = batch_size
        self.seed = seed
        # No view is ever enlarged from a photograph decoded at reduced scale.
        sides = [views.global_size / views.global_scale[0] ** 0.5]
        if views.local_crops:
            sides.append(views.local_size / views.local_scale[0] ** 0.5)
        self.min_side = round(max(sides))

    def row(self, position: int) -> int:
        """Return the manifest row shown at a position: each epoch is a new permutation."""
        epoch, place = divmod(position, len(self.manifest))
        return int(_order(self.seed, epoch, len(self.manifest))[place])

    def __getitem__(self, position: int) -> Sample:
        row, image, unreadable, failure = self._read(position)
        random = generator(self.seed, Stream.SAMPLE, position)
        views, size = self.views, self.views.local_size
        global_crops, global_photometric = [], []
        names: tuple[View, View] = ("global_1", "global_2")
        for name in names:
            global_crops.append(
                random_resized_crop(image, views.global_size, views.global_scale, random)
            )
            global_photometric.append(draw_photometric(name, views.blur, random))
        local_crops = torch.empty(views.local_crops, 3, size, size, dtype=torch.uint8)
        local_photometric = torch.empty(views.local_crops, NUM_PARAMETERS)
        for crop in range(views.local_crops):
            local_crops[crop] = random_resized_crop(image, size, views.local_scale, random)
            local_photometric[crop] = torch.from_numpy(
                draw_photometric("local", views.blur, random)
            )
        return Sample(
            global_crops=torch.stack(global_crops),
            local_crops=local_crops,
            global_photometric=torch.from_numpy(np.stack(global_photometric)),
            local_photometric=local_photometric,
            masks=torch.from_numpy(self._masks(position, random)),
            row=row,
            unreadable=tuple(unreadable),
            failure=failure,
        )

    def _masks(self, position: int, random: np.random.Generator) -> np.ndarray:
        """Return the (2, N_p) masks of a sample; their sizes are dealt out over the whole step."""
        step, place = divmod(position, self.batch_size)
        num_patches = self.grid[0] * self.grid[1]
        targets = _mask_targets(self.seed, step, self.batch_size, num_patches, self.masking)
        masks = [
            block_mask(self.grid, int(targets[crop * self.batch_size + place]), random).ravel()
            for crop in range(2)
        ]
        return np.stack(masks)

    def _read(self, position: int) -> tuple[int, torch.Tensor, list[int], str]:
        """Read the image of a position, or another one in its place, and say where that failed.

        Giving up is a value, not an error: from a loader's process errors arrive with a traceback
        for a message.
        """
        row = self.row(position)
        unreadable: list[int] = []
        random = generator(self.seed, Stream.REPLACEMENT, position)
        while True:
            try:
                image = read_image(self.manifest.path(row), self.min_side)
                return row, image, unreadable, ""
            except UnreadableImage as error:
                unreadable.append(row)
                if len(unreadable) > REPLACEMENTS:
                    blank = torch.zeros(3, 1, 1, dtype=torch.uint8)
                    return row, blank, unreadable, error.message
                row = int(random.integers(len(self.manifest)))


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    random = generator(seed, Stream.ORDER, epoch)
    return random.permutation(np.arange(num_images, dtype=np.uint32))


@lru_cache(maxsize=4)
def _mask_targets(
    seed: int, step: int, batch_size: int, num_patches: int, masking: MaskingConfig
) -> np.ndarray:
    random = generator(seed, Stream.MASK_TARGETS, step)
    return masked_patch_targets(
        2 * batch_size, num_patches, masking.probability, masking.ratio, random
    )


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
        persistent_workers=workers > 0,
    )
