"""Images and masks at the size a head is trained at, decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dermino.data.images import decode, open_image, read_bytes, upright_size
from dermino.data.reference import Reference
from dermino.errors import UserError, first_of
from dermino.evaluate.features import decoded_side, loader_workers
from dermino.evaluate.segmentation.lesion_mask import read_lesion_mask
from dermino.evaluate.segmentation.row_file import read_rows, row_writer
from dermino.models.preprocess import Preprocess
from dermino.progress import track

# Two readings of a mask, as bits of one byte.
LESION = 1  # Nearest neighbour: what heads learn and are judged by.
LESION_OFFICIAL = 2  # As the authors' scripts resize it.
_SHOWN = 5


@dataclass(frozen=True)
class Pixels:
    """Resized images and masks of n rows.

    Parameters
    ----------
    images:
        (n, 3, H, W) uint8, squashed to the encoder's input size.
    masks:
        (n, size, size) uint8, bits :data:`LESION` and :data:`LESION_OFFICIAL`.
    sizes:
        Height and width of the pictures, shape (n, 2).
    """

    images: np.ndarray
    masks: np.ndarray
    sizes: np.ndarray

    def lesions(self, rows: np.ndarray, reading: int = LESION) -> np.ndarray:
        """Return masks of some rows, shape (b, size, size), bool."""
        return self.masks[rows] & reading > 0


def read_pixels(
    paths: Sequence[Reference],
    masks: Sequence[Reference],
    preprocess: Preprocess,
    size: int,
    folder: Path,
    batch_size: int = 64,
    workers: int | None = None,
) -> Pixels:
    """Decode and resize images and masks, or open what an interrupted trial has left.

    Whole pictures are squashed, as the paper does (section 4.2.3): a centre crop would cut
    lesions. The interpolation of images is the encoder's own.

    Parameters
    ----------
    paths, masks:
        n pictures and their masks.
    preprocess:
        The encoder's.
    size:
        Side of the resized masks, pixels.
    folder:
        Where the arrays are kept.
    batch_size, workers:
        Images in a batch, and processes that decode.

    Raises
    ------
    UserError
        Naming all pictures and masks that cannot be used.
    """
    files = [folder / f"{name}.npy" for name in ("images", "masks", "sizes")]
    if not all(file.exists() for file in files):
        _decode(_Pairs(paths, masks, preprocess, size), files, batch_size, workers)
    return Pixels(*map(read_rows, files))


_Item = tuple[np.ndarray, np.ndarray, tuple[int, int]]


class _Pairs(Dataset):
    def __init__(
        self,
        paths: Sequence[Reference],
        masks: Sequence[Reference],
        preprocess: Preprocess,
        size: int,
    ) -> None:
        self.paths = paths
        self.masks = masks
        self.preprocess = replace(preprocess, mode="squash")
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> _Item | UserError:
        path = self.paths[index]
        try:
            data = read_bytes(path)
            picture = open_image(data, path)
            size = upright_size(picture)
            pixels = decode(picture, data, path, min_side=decoded_side(self.preprocess))
            mask = read_lesion_mask(self.masks[index], path, size)
        except UserError as error:
            return error
        return self.preprocess.resize(pixels).numpy(), self._readings(mask), size

    def _readings(self, mask: Image.Image) -> np.ndarray:
        side = (self.size, self.size)
        nearest = np.asarray(mask.convert("L").resize(side, Image.Resampling.NEAREST)) > 0
        # The authors resize bilinearly (which Pillow refuses for one bit a pixel, taking nearest)
        # and call lesion only what is then exactly the largest value.
        official = np.asarray(mask.resize(side, Image.Resampling.BILINEAR).convert("L")) == 255
        return (nearest * LESION + official * LESION_OFFICIAL).astype(np.uint8)


def _decode(pairs: _Pairs, files: Sequence[Path], batch_size: int, workers: int | None) -> None:
    n, side = len(pairs), pairs.preprocess.image_size
    arrays: list[tuple[tuple[int, ...], type[np.generic]]] = [
        ((n, 3, side, side), np.uint8),
        ((n, pairs.size, pairs.size), np.uint8),
        ((n, 2), np.int32),
    ]
    loader = DataLoader(pairs, batch_size, num_workers=loader_workers(workers, n), collate_fn=list)
    problems: list[UserError] = []
    with ExitStack() as stack:
        writers = [
            stack.enter_context(row_writer(file, shape, dtype))
            for file, (shape, dtype) in zip(files, arrays, strict=True)
        ]
        for batch in track(loader, f"Images and masks, batches of {batch_size}"):
            problems += [item for item in batch if isinstance(item, UserError)]
            if problems:
                continue
            columns = zip(*batch, strict=True)
            for writer, (_, dtype), rows in zip(writers, arrays, columns, strict=True):
                writer.add(np.stack([np.asarray(row, dtype) for row in rows]))
        if problems:
            raise _unusable(problems)


def _unusable(problems: Sequence[UserError]) -> UserError:
    if len(problems) == 1:
        return problems[0]
    shown = first_of([problem.message for problem in problems], _SHOWN, "\n")
    return UserError(
        f"{len(problems)} images or masks cannot be used:\n{shown}", problems[0].remedy
    )
