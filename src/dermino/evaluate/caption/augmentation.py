"""Features of training images that look a little different in every epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dermino.data.images import read_image
from dermino.data.reference import Reference
from dermino.evaluate.features import decoded_side, loader_workers
from dermino.evaluate.seeding import seeded
from dermino.models.encoder import Encoder
from dermino.progress import track

_MARGIN = 1.4
_CPU = torch.device("cpu")


def augmented_features(
    encoder: Encoder,
    paths: Sequence[Reference],
    key: Sequence[int],
    batch_size: int,
    workers: int | None,
) -> Tensor:
    """Return features of images, each turned, moved and coloured by chance.

    As the authors' caption script: squashed to 1.4 times the encoder's side, flips (0.5, 0.1),
    rotation by 25 degrees, brightness, contrast and saturation by 0.2, hue by 0.05, shifts by 0.1,
    sizes 0.8 to 1.2, centre crop.

    Parameters
    ----------
    encoder:
        On the device.
    paths:
        Images, n of them.
    key:
        Of the random numbers, which also depend on the image's number.
    batch_size, workers:
        Images in a forward pass, and processes that decode.

    Returns
    -------
    Tensor
        (n, D) float32, on the encoder's device.
    """
    images = _Augmented(paths, encoder.preprocess.image_size, key)
    side = decoded_side(encoder.preprocess)
    images.decoded_side = side
    loader = DataLoader(images, batch_size, num_workers=loader_workers(workers, len(paths)))
    with torch.no_grad():
        batches = [
            encoder.embed(pixels.to(encoder.device))
            for pixels in track(loader, f"Features of {encoder.name}, augmented")
        ]
    return torch.cat(batches)


class _Augmented(Dataset):
    decoded_side: int

    def __init__(self, paths: Sequence[Reference], side: int, key: Sequence[int]) -> None:
        self._paths = paths
        self._key = key
        larger = int(side * _MARGIN)
        self._change = v2.Compose(
            [
                v2.Resize((larger, larger), antialias=True),
                v2.RandomHorizontalFlip(0.5),
                v2.RandomVerticalFlip(0.1),
                v2.RandomRotation(25),
                v2.ColorJitter(0.2, 0.2, 0.2, 0.05),
                v2.RandomAffine(0, translate=(0.1, 0.1), scale=(0.8, 1.2)),
                v2.CenterCrop(side),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        image = read_image(self._paths[index], min_side=self.decoded_side)
        with seeded(_CPU, *self._key, index):
            return self._change(image)
