"""From image files to feature vectors, through the cache, decoding every image once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dermino.data.images import UnreadableImage, read_image
from dermino.data.reference import Reference, exists
from dermino.errors import UserError, first_of
from dermino.evaluate.feature_cache import FeatureCache
from dermino.models.encoder import Encoder
from dermino.models.preprocess import Preprocess
from dermino.progress import console, track

# JPEGs far larger than any encoder's input are decoded at a fraction of their size. The limit is
# the same for all encoders: features do not depend on which encoders share a call, and those of
# one call share one decoded image.
_DECODED_SIDE = 1024
_WORKERS_AT_MOST = 16
_IMAGES_WORTH_A_WORKER = 64
_SHOWN = 5

# The part of a Preprocess that happens before the batch, and the rows and images made with it.
_Batch = dict[Preprocess, tuple[np.ndarray, torch.Tensor]]


def resolve_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the first GPU if there is one.

    Raises
    ------
    UserError
        If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        remedy = "Use --device auto, cpu, or cuda:N."
        raise UserError(f"The device '{name}' cannot be used: {reason}", remedy) from error
    return device


def resolve_devices(names: Sequence[str]) -> list[torch.device]:
    """Return the devices called ``names``; ``auto`` stands for all GPUs, or the CPU without any.

    Raises
    ------
    UserError
        If there is no such device here.
    """
    if list(names) == ["auto"] and torch.cuda.device_count() > 1:
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [resolve_device(name) for name in names]


def check_files(paths: Sequence[Reference]) -> None:
    """Prove that all images are there; a UserError names those that are not."""
    missing = [path for path in paths if not exists(path)]
    if missing:
        shown = first_of(missing, _SHOWN, "\n")
        raise UserError(
            f"{len(missing)} of {len(paths)} images are missing:\n{shown}",
            "Put them back, or set them aside with: dermino data check",
        )


def extract(
    encoder: Encoder,
    paths: Sequence[Reference],
    cache: FeatureCache,
    batch_size: int = 64,
    workers: int | None = None,
) -> np.ndarray:
    """Return the features of images, shape (n, D), float32; see :func:`extract_many`."""
    return extract_many([encoder], paths, cache, batch_size, workers)[0]


def extract_many(
    encoders: Sequence[Encoder],
    paths: Sequence[Reference],
    cache: FeatureCache,
    batch_size: int = 64,
    workers: int | None = None,
    digests: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Return each encoder's features of the same images.

    An image is decoded once for all encoders, a feature already in the cache is not computed, and
    images of equal content are computed once. What was done before an interruption is kept.

    Parameters
    ----------
    encoders:
        On the devices they shall run on.
    paths:
        Images, n of them: files, members of containers or URLs.
    cache:
        Where features are looked up and kept.
    batch_size:
        Images in one forward pass.
    workers:
        Processes that decode. None: as many as there are cores, none for a handful of images.
    digests:
        Content digests of the files, shape (n, 16), uint8, where the caller has them already.

    Returns
    -------
    list of np.ndarray
        One (n, D) float32 array for each encoder.

    Raises
    ------
    UserError
        If images cannot be read (after all others have been computed), or if an encoder gives
        values that are not finite.
    """
    if digests is None:
        digests = cache.digests(paths)
    _, first = np.unique(digests, axis=0, return_index=True)
    wanted = {}
    for encoder in encoders:
        missing = np.zeros(len(paths), bool)
        missing[first] = cache.missing(encoder.identity, digests[first])
        wanted[encoder.identity] = missing
    if any(missing.any() for missing in wanted.values()):
        _compute(encoders, paths, digests, wanted, cache, batch_size, workers)
    return [cache.read(encoder.identity, digests) for encoder in encoders]


def _compute(
    encoders: Sequence[Encoder],
    paths: Sequence[Reference],
    digests: np.ndarray,
    wanted: dict[str, np.ndarray],
    cache: FeatureCache,
    batch_size: int,
    workers: int | None,
) -> None:
    unique = {encoder.identity: encoder for encoder in encoders}
    needs = {identity: _geometry(encoder.preprocess) for identity, encoder in unique.items()}
    images = _Images(paths, [(needs[identity], wanted[identity]) for identity in unique])
    loader = DataLoader(
        images,
        batch_size=batch_size,
        num_workers=loader_workers(workers, len(images)),
        collate_fn=_collate,
        pin_memory=any(encoder.device.type == "cuda" for encoder in unique.values()),
    )
    names = ", ".join(encoder.name for encoder in unique.values())
    unreadable: list[UnreadableImage] = []
    start = time.monotonic()
    with ExitStack() as stack, torch.inference_mode():
        writers = {identity: stack.enter_context(cache.writer(identity)) for identity in unique}
        for batch, errors in track(loader, f"Features of {names}, batches of {batch_size}"):
            unreadable += errors
            for identity, encoder in unique.items():
                if needs[identity] not in batch:
                    continue
                rows, pixels = batch[needs[identity]]
                chosen = wanted[identity][rows]
                if chosen.any():
                    features = encoder.embed(pixels[torch.from_numpy(chosen)]).cpu().numpy()
                    _check_finite(features, encoder, paths, rows[chosen])
                    writers[identity].add(digests[rows[chosen]], features)
    if unreadable:
        raise _unreadable_images(unreadable)
    seconds = time.monotonic() - start
    console.print(
        f"Features of {names}: {len(images)} images, {len(images) / seconds:.0f} images/s"
    )


class _Images(Dataset):
    """The images that some encoder still needs, each resized for those encoders only."""

    def __init__(
        self, paths: Sequence[Reference], needs: list[tuple[Preprocess, np.ndarray]]
    ) -> None:
        self._rows = np.flatnonzero(np.logical_or.reduce([missing for _, missing in needs]))
        self._paths = [paths[row] for row in self._rows.tolist()]
        self._needs = needs

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(
        self, index: int
    ) -> tuple[int, dict[Preprocess, torch.Tensor] | UnreadableImage]:
        row = int(self._rows[index])
        geometries = {geometry for geometry, missing in self._needs if missing[row]}
        decoded: dict[int, torch.Tensor] = {}
        try:
            for side in {decoded_side(geometry) for geometry in geometries}:
                decoded[side] = read_image(self._paths[index], min_side=side)
        except UnreadableImage as error:
            return row, error
        return row, {
            geometry: geometry.resize(decoded[decoded_side(geometry)]) for geometry in geometries
        }


def _geometry(preprocess: Preprocess) -> Preprocess:
    """Drop what does not change the resized pixels, so that equal needs compare equal."""
    return replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def decoded_side(geometry: Preprocess) -> int:
    """Return the pixels that a JPEG's shorter side keeps when it is decoded at a fraction."""
    return max(_DECODED_SIDE, geometry.resize_size, geometry.image_size)


def _collate(
    items: list[tuple[int, dict[Preprocess, torch.Tensor] | UnreadableImage]],
) -> tuple[_Batch, list[UnreadableImage]]:
    grouped: dict[Preprocess, tuple[list[int], list[torch.Tensor]]] = {}
    errors = []
    for row, images in items:
        if isinstance(images, UnreadableImage):
            errors.append(images)
            continue
        for geometry, image in images.items():
            rows, tensors = grouped.setdefault(geometry, ([], []))
            rows.append(row)
            tensors.append(image)
    batch = {
        geometry: (np.array(rows), torch.stack(tensors))
        for geometry, (rows, tensors) in grouped.items()
    }
    return batch, errors


def loader_workers(workers: int | None, images: int) -> int:
    """Return how many processes decode images: as many as asked for, or as are worth it."""
    if workers is not None:
        return workers
    available = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(available, _WORKERS_AT_MOST, images // _IMAGES_WORTH_A_WORKER)


def _check_finite(
    features: np.ndarray, encoder: Encoder, paths: Sequence[Reference], rows: np.ndarray
) -> None:
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise UserError(
            f"The encoder '{encoder.name}' gives values that are not finite, "
            f"for instance for '{paths[int(rows[broken][0])]}'.",
            "Its weights are probably damaged or its training diverged.",
        )


def _unreadable_images(errors: list[UnreadableImage]) -> UserError:
    shown = first_of([error.message for error in errors], _SHOWN, "\n")
    return UserError(
        f"{len(errors)} images cannot be read:\n{shown}",
        "Set them aside with: dermino data check. The features of all others have been kept.",
    )
