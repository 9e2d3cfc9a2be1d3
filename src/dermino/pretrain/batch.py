"""Samples and batches of views, and how one becomes the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from dermino.knowledge.encoded_labels import EncodedLabels
from dermino.models.patch_selection import PatchSelection
from dermino.models.preprocess import Preprocess
from dermino.models.stochastic_depth import Paths
from dermino.pretrain.views.masking import FixedMasking
from dermino.pretrain.views.photometric import NUM_PARAMETERS, apply_photometric
from dermino.pretrain.views.view import View, Views


@dataclass(frozen=True)
class Sample:
    """The views of one image, before batching."""

    global_crops: torch.Tensor
    local_crops: torch.Tensor
    global_photometric: torch.Tensor
    local_photometric: torch.Tensor
    masks: torch.Tensor
    row: int
    unreadable: tuple[int, ...]
    failure: str


# Not frozen: Fabric's mixed precision walks through what a module is given and writes copies.
@dataclass
class Batch:
    """The views of a batch, crop after crop: the first B global crops are crop 0 of each image.

    Parameters
    ----------
    global_crops:
        (V B, 3, G, G) of V global views, uint8 from the loader, float32 and normalised after
        :meth:`augmented`.
    local_crops:
        (N_l B, 3, L, L), likewise.
    global_photometric, local_photometric:
        (V B, 9) and (N_l B, 9) float32, see :mod:`dermino.pretrain.views.photometric`.
    masks:
        (V B, N_p) bool; N_p = 0 for methods that hide nothing.
    masked:
        The same M patches, as places.
    targets, known:
        (B, C) uint8, y and n of Eq. 6; C = 0 without a taxonomy.
    rows:
        (B,) int64, rows of the manifest.
    unreadable:
        Rows that had to be replaced because their image cannot be read.
    failure:
        Why no replacement could be read either; empty where one could.
    global_paths, local_paths:
        Residual branches that the crops take; None = all.
    labelled:
        () float32, images with labels in an average batch of the optimiser's step, over its
        batches and all processes; None = count this batch's.
    """

    global_crops: torch.Tensor
    local_crops: torch.Tensor
    global_photometric: torch.Tensor
    local_photometric: torch.Tensor
    masks: torch.Tensor
    masked: PatchSelection
    targets: torch.Tensor
    known: torch.Tensor
    rows: torch.Tensor
    unreadable: tuple[int, ...]
    failure: str
    global_paths: Paths | None = None
    local_paths: Paths | None = None
    labelled: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def blank(cls, views: Views, patch_size: int, size: int, num_concepts: int = 0) -> Batch:
        """Return ``size`` black images as the loader would, masked alike, for trying a step.

        Where blocks are masked, as many patches are as in a real batch. All ``num_concepts`` are
        known to be absent, so that every loss has something to compute.
        """
        wide, narrow = views.global_views, views.local_views
        patches = (wide[0].size // patch_size) ** 2
        masks = torch.zeros(len(wide) * size, patches if views.masking else 0, dtype=torch.bool)
        if isinstance(views.masking, FixedMasking):
            masks[:, : views.masking.count(patches)] = True
        elif views.masking is not None:
            share = sum(views.masking.ratio) / 2
            masks[: int(len(masks) * views.masking.probability), : int(patches * share)] = True
        return cls(
            global_crops=_black(wide, size),
            local_crops=_black(narrow, size),
            global_photometric=torch.zeros(len(wide) * size, NUM_PARAMETERS),
            local_photometric=torch.zeros(len(narrow) * size, NUM_PARAMETERS),
            masks=masks,
            masked=PatchSelection.of(masks),
            targets=torch.zeros(size, num_concepts, dtype=torch.uint8),
            known=torch.ones(size, num_concepts, dtype=torch.uint8),
            rows=torch.zeros(size, dtype=torch.int64),
            unreadable=(),
            failure="",
        )

    def pin_memory(self) -> Batch:
        """Pin every tensor, so that it can be copied while the device works."""
        return self._map(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Move the batch; the photometric numbers stay on the CPU, where they are read."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(
            moved,
            global_photometric=self.global_photometric,
            local_photometric=self.local_photometric,
        )

    @torch.no_grad()
    def augmented(self) -> Batch:
        """Return the batch with colours augmented and normalised, on its own device."""
        preprocess = Preprocess()
        return replace(
            self,
            global_crops=preprocess.normalise(
                apply_photometric(self.global_crops, self.global_photometric)
            ),
            local_crops=preprocess.normalise(
                apply_photometric(self.local_crops, self.local_photometric)
            ),
        )

    def split_patches(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the places of the visible and of the masked patches of each global crop.

        For masks that hide equally many patches of every crop.

        Returns
        -------
        (V B, N_p - M) and (V B, M) int64, ascending.
        """
        masked = len(self.masked) // len(self.masks)
        order = self.masks.byte().argsort(dim=1, stable=True)
        visible = order.shape[1] - masked
        return order[:, :visible], order[:, visible:]

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        tensors = {
            item.name: function(value)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), torch.Tensor)
        }
        return replace(self, masked=self.masked.map(function), **tensors)  # type: ignore[arg-type]


class Collate:
    """Stack samples crop after crop and look up their labels.

    Parameters
    ----------
    labels:
        The manifest's labels as concepts; None trains without supervision.
    """

    def __init__(self, labels: EncodedLabels | None) -> None:
        self.labels = labels

    def __call__(self, samples: list[Sample]) -> Batch:
        """Build a batch."""
        rows = np.array([sample.row for sample in samples])
        if self.labels is None:
            targets = known = np.empty((len(rows), 0), dtype=np.uint8)
        else:
            targets, known = self.labels.targets(rows)
        masks = _crop_major([sample.masks for sample in samples])
        return Batch(
            global_crops=_channels_last([sample.global_crops for sample in samples]),
            local_crops=_channels_last([sample.local_crops for sample in samples]),
            global_photometric=_crop_major([sample.global_photometric for sample in samples]),
            local_photometric=_crop_major([sample.local_photometric for sample in samples]),
            masks=masks,
            masked=PatchSelection.of(masks),
            targets=torch.from_numpy(targets),
            known=torch.from_numpy(known),
            rows=torch.from_numpy(rows),
            unreadable=tuple(row for sample in samples for row in sample.unreadable),
            failure=next((sample.failure for sample in samples if sample.failure), ""),
        )


def _black(views: tuple[View, ...], size: int) -> torch.Tensor:
    side = views[0].size if views else 0
    return torch.zeros(len(views) * size, 3, side, side, dtype=torch.uint8)


def _channels_last(crops: list[torch.Tensor]) -> torch.Tensor:
    """Stack B tensors (crops, 3, S, S) crop after crop without moving their channels in memory."""
    return _crop_major([part.permute(0, 2, 3, 1) for part in crops]).permute(0, 3, 1, 2)


def _crop_major(parts: list[torch.Tensor]) -> torch.Tensor:
    """Stack B tensors (crops, ...) into (crops * B, ...)."""
    return torch.stack(parts, dim=1).flatten(0, 1)
