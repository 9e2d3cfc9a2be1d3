"""Labelled images that are not trained on, to see whether neighbours agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermino.data.manifest import Manifest
from dermino.pretrain.config import MonitorConfig
from dermino.pretrain.streams import Stream, generator

# Of each class, at most this share may be taken out of training.
_LARGEST_SHARE = 0.1
_FEWEST_OF_A_CLASS = 2


@dataclass(frozen=True)
class HeldOut:
    """What :func:`hold_out` chose.

    Parameters
    ----------
    images:
        The held-out images; empty where there are none.
    classes:
        (n,) int64, the label of each as a number.
    groups:
        (n,) int64, equal for pictures of one patient or lesion.
    taken_out:
        (N,) bool over all rows of the manifests: those kept out of training for this.
    """

    images: Manifest
    classes: np.ndarray
    groups: np.ndarray
    taken_out: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def num_classes(self) -> int:
        """Number of different labels."""
        return len(np.unique(self.classes))

    def describe(self) -> str:
        """Say in words what is held out, and what that costs."""
        if not len(self):
            return (
                "nothing, since no labelled image of the split val is left out of training; "
                "--split train leaves them out, monitor.hold_out=true takes some"
            )
        taken = int(self.taken_out.sum())
        cost = f"; {taken:,} images were taken out of training" if taken else ""
        return (
            f"{len(self):,} labelled images of {self.num_classes} classes (chance "
            f"{1 / self.num_classes:.2g}), not trained on{cost}"
        )


def hold_out(
    manifest: Manifest, splits: Sequence[str] | None, options: MonitorConfig, seed: int
) -> HeldOut:
    """Choose labelled images that the run does not train on, the same ones for the same seed.

    These are images of the split ``val`` if the run leaves it out. Otherwise none, unless
    ``hold_out`` asks for some: then at most a tenth of each class, those of ``val`` first, and
    with them every other image of the same patients and lesions is taken out of training. Images
    with several labels, test images, and classes of a single picture are passed over.

    Parameters
    ----------
    manifest:
        All images.
    splits:
        Those to train on; None = all but ``test``.
    options:
        How many images at most, and whether some may be taken out of training.
    seed:
        Seed of the run.
    """
    nothing = np.zeros(len(manifest), dtype=bool)
    lengths = manifest.table["labels"].combine_chunks().value_lengths()
    single = np.flatnonzero(lengths.to_numpy(zero_copy_only=False) == 1)
    split = np.asarray(manifest.column("split"), dtype=object)
    trained = np.isin(split, list(splits)) if splits is not None else split != "test"
    spare = single[(split[single] == "val") & ~trained[single]]
    takes = options.hold_out and not len(spare)
    candidates = single[trained[single]] if takes else spare
    chosen = classes = np.zeros(0, dtype=np.int64)
    if options.knn_images and len(candidates):
        labels = pd.Series(manifest.table["labels"].take(candidates).combine_chunks().flatten())
        classes = pd.factorize(labels.astype(str))[0].astype(np.int64)
        order = generator(seed, Stream.HELD_OUT, 0).permutation(len(candidates))
        order = order[np.argsort(split[candidates[order]] != "val", kind="stable")]
        order = _by_turns(classes[order], order, _LARGEST_SHARE if takes else 1.0)
        order = np.sort(order[: options.knn_images])
        counts = np.bincount(classes[order], minlength=1)
        order = order[counts[classes[order]] >= _FEWEST_OF_A_CLASS]
        chosen, classes = candidates[order], classes[order]
        if len(np.unique(classes)) < 2:
            chosen = classes = np.zeros(0, dtype=np.int64)
    images = manifest.select(chosen)
    if not takes or not len(chosen):
        return HeldOut(images, classes, _groups(images), nothing)
    groups = _groups(manifest)
    return HeldOut(images, classes, groups[chosen], np.isin(groups, groups[chosen]) & trained)


def _by_turns(classes: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    """Let classes take turns, so that rare ones are not lost; of each no more than its share."""
    turn = pd.Series(classes).groupby(classes).cumcount().to_numpy()
    allowed = turn + 1 <= np.bincount(classes)[classes] * share
    return order[allowed][np.argsort(turn[allowed], kind="stable")]


def _groups(manifest: Manifest) -> np.ndarray:
    """Number the patients, where unknown the lesions, where unknown the pictures."""
    keys = pd.Series(np.arange(len(manifest)).astype(str), dtype=object)
    datasets = pd.Series(manifest.column("dataset"), dtype=object)
    for column in ("lesion_id", "patient_id"):
        values = pd.Series(manifest.column(column), dtype=object)
        keys = keys.where(values.isna(), datasets + "\0" + column + "\0" + values.astype(str))
    return pd.factorize(keys)[0].astype(np.int64)
