"""The feature maps of a frozen encoder, computed once where the disk has room for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from dermino.errors import UserError
from dermino.evaluate.segmentation.row_file import read_rows, row_writer
from dermino.progress import console, track

Extractor = Callable[[torch.Tensor], list[torch.Tensor]]
"""From images (B, 3, H, W) uint8 to maps, each (B, h, w, D) float32, finest first."""

_SHARE_OF_FREE_DISK = 0.5


class FeatureMaps:
    """The maps of n images.

    They are kept in half precision; values beyond its range are cut to it. Where less than twice
    the space they need is free, they are computed anew for every batch, from the same half
    precision.

    Parameters
    ----------
    extract:
        Computes the maps of a batch.
    images:
        (n, 3, H, W) uint8.
    folder:
        Where maps are kept.
    batch_size:
        Images in a forward pass.
    encoder_name:
        For messages.
    """

    def __init__(
        self,
        extract: Extractor,
        images: np.ndarray,
        folder: Path,
        batch_size: int,
        encoder_name: str,
    ) -> None:
        self._extract = extract
        self._images = images
        self._name = encoder_name
        first = self._compute(np.arange(1))
        self.channels = [stage.shape[-1] for stage in first]
        self._kept = self._keep(first, folder, batch_size)

    def batch(self, rows: np.ndarray, device: torch.device) -> list[torch.Tensor]:
        """Return the maps of some rows, each (B, D, h, w) float32, on the device."""
        if self._kept:
            stages = [torch.from_numpy(kept[rows]).to(device) for kept in self._kept]
        else:
            stages = [stage.to(device) for stage in self._compute(rows)]
        return [stage.float().permute(0, 3, 1, 2) for stage in stages]

    def _keep(
        self, first: Sequence[torch.Tensor], folder: Path, batch_size: int
    ) -> list[np.ndarray]:
        n = len(self._images)
        files = [folder / f"maps-{number}.npy" for number in range(len(first))]
        if not all(file.exists() for file in files):
            needed = n * sum(stage.nbytes for stage in first)
            if needed > _SHARE_OF_FREE_DISK * shutil.disk_usage(folder).free:
                console.print(
                    f"The feature maps of {self._name} would take {needed / 1e9:.0f} GB of disk; "
                    "they are computed anew in every epoch."
                )
                return []
            with ExitStack() as stack:
                writers = [
                    stack.enter_context(row_writer(file, (n, *stage.shape[1:]), np.float16))
                    for file, stage in zip(files, first, strict=True)
                ]
                batches = np.array_split(np.arange(n), -(-n // batch_size))
                for rows in track(batches, f"Feature maps of {self._name}, {n} images"):
                    for writer, maps in zip(writers, self._compute(rows), strict=True):
                        writer.add(maps.cpu().numpy())
        return [read_rows(file) for file in files]

    @torch.inference_mode()
    def _compute(self, rows: np.ndarray) -> list[torch.Tensor]:
        stages = self._extract(torch.from_numpy(self._images[rows]))
        if not all(bool(torch.isfinite(stage).all()) for stage in stages):
            raise UserError(
                f"The encoder '{self._name}' gives values that are not finite.",
                "Its weights are probably damaged or its training diverged.",
            )
        limit = torch.finfo(torch.float16).max
        return [stage.clamp(-limit, limit).half() for stage in stages]
