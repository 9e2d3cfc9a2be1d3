"""Predicted masks of the test rows: measured one by one, kept as pictures, and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dermino.evaluate.pooled import Aggregate, PooledScore, Score
from dermino.evaluate.segmentation.boundary import hausdorff95
from dermino.evaluate.segmentation.overlap import (
    count_pixels,
    dice,
    dice_terms,
    jaccard,
    jaccard_terms,
    official_scores,
)
from dermino.evaluate.segmentation.pixels import LESION_OFFICIAL, Pixels
from dermino.evaluate.segmentation.training import enlarge
from dermino.evaluate.task import file_name
from dermino.files import atomic_path

_BOTH_EMPTY = "the mask and the prediction are empty"
_ONE_EMPTY = "the mask or the prediction is empty"


@dataclass
class Answers:
    """Collects the predictions for n test images.

    Parameters
    ----------
    names:
        File names of the predicted masks.
    files:
        Folder to keep them in; None: keep none.
    """

    names: Sequence[str]
    files: Path | None

    def __post_init__(self) -> None:
        self._counts: list[np.ndarray] = []
        self._official: list[np.ndarray] = []
        self._distances: list[float] = []

    def add(self, logits: Tensor, pixels: Pixels, rows: np.ndarray) -> None:
        """Measure and keep the next images.

        Parameters
        ----------
        logits:
            (b, 2, S, S), of background and lesion, at the size of ``pixels.masks``.
        pixels, rows:
            The true masks, and which of them.
        """
        margins = (logits[:, 1] - logits[:, 0]).float().cpu()
        predicted = (margins > 0).numpy()
        lesions = pixels.lesions(rows)
        first = len(self._distances)
        self._counts.append(count_pixels(predicted, lesions))
        self._official.append(count_pixels(predicted, pixels.lesions(rows, LESION_OFFICIAL)))
        self._distances += [
            hausdorff95(own, true) for own, true in zip(predicted, lesions, strict=True)
        ]
        if self.files is not None:
            names = self.names[first : len(self._distances)]
            for name, margin, size in zip(names, margins, pixels.sizes[rows], strict=True):
                _write_mask(self.files / name, margin, size)

    def scores(self, batch_size: int) -> dict[str, Score]:
        """Return the metrics; ``batch_size`` is that of the official ones."""
        counts = np.concatenate(self._counts)
        official = official_scores(np.concatenate(self._official), batch_size)
        note = f"as the authors' scripts: both classes, averaged over batches of {batch_size}"
        return {
            "dice": _mean("Dice", dice(counts), _BOTH_EMPTY),
            "jaccard": _mean("Jaccard", jaccard(counts), _BOTH_EMPTY),
            "dice_dataset": PooledScore.ratio("Dice of all pixels", *dice_terms(counts)),
            "jaccard_dataset": PooledScore.ratio("Jaccard of all pixels", *jaccard_terms(counts)),
            "hd95": _mean("HD95 (pixels)", np.array(self._distances), _ONE_EMPTY),
            "dice_official": Aggregate("Dice (authors' scripts)", official[0], note=note),
            "jaccard_official": Aggregate("Jaccard (authors' scripts)", official[1], note=note),
        }


def mask_names(images: Sequence[str]) -> list[str]:
    """Return a PNG name for each image: its own, with its number where names repeat."""
    stems = [file_name(PurePosixPath(image).stem) for image in images]
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = [f"{number:06d}-{stem}" for number, stem in enumerate(stems)]
    return [f"{stem}.png" for stem in stems]


def _mean(title: str, values: np.ndarray, reason: str) -> PooledScore:
    score = PooledScore.mean(title, values)
    return replace(score, note=f"{score.note}: {reason}") if score.note else score


def _write_mask(path: Path, margin: Tensor, size: np.ndarray) -> None:
    """Write a mask as large as the picture: 255 where lesion is likelier than background."""
    height, width = size.tolist()
    lesion = enlarge(margin[None, None], (height, width))[0, 0] > 0
    with atomic_path(path, sync=False) as temporary:
        Image.fromarray(lesion.to(torch.uint8).numpy() * 255).save(temporary, format="PNG")
