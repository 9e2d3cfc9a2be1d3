"""Outlines of predicted lesions over the picture, as in Fig. 5c of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dermino.report.pictures import encode, image_below, open_picture, outline

TRUE_COLOUR = "#56B4E9"
PREDICTED_COLOUR = "#E69F00"
_NEEDED = {"image", "true_mask", "predicted_mask", "value:dice"}
_SIDE = 200
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Overlay:
    """One encoder's lesion over the picture, and its Dice; ``data`` is None where it is gone."""

    encoder: str
    data: str | None
    dice: float


@dataclass(frozen=True)
class OverlayExample:
    """A test image with the lesions of all encoders; ``place`` says why it was chosen."""

    image: str
    place: str
    overlays: list[Overlay]


def overlay_examples(
    predictions: Mapping[str, pd.DataFrame], folders: Mapping[str, Path], root: str
) -> list[OverlayExample]:
    """Choose test images from hard to easy and draw true and predicted outlines.

    The images lie at fixed quantiles of the mean Dice over the encoders, so that neither the best
    nor the worst are picked by hand.

    Parameters
    ----------
    predictions:
        Of each encoder, with ``true_mask``, ``predicted_mask`` and ``value:dice``.
    folders:
        Where each encoder's predicted masks lie.
    root:
        Folder that images and true masks are relative to.
    """
    usable = {
        name: frame.drop_duplicates("image").set_index("image")
        for name, frame in predictions.items()
        if set(frame.columns) >= _NEEDED
    }
    if not usable:
        return []
    values = pd.concat(
        {name: frame["value:dice"] for name, frame in usable.items()}, axis="columns", join="inner"
    )
    means = values.mean(axis="columns").dropna().sort_index().sort_values(kind="stable")
    if means.empty:
        return []
    chosen: dict[str, str] = {}
    for quantile in _QUANTILES:
        image = str(means.index[round(quantile * (len(means) - 1))])
        chosen.setdefault(image, f"{100 * quantile:.0f} % of the images are harder")
    examples = []
    for image, place in chosen.items():
        overlays = []
        for name, frame in usable.items():
            row = frame.loc[image].to_dict()
            masks = (
                image_below(root, str(row["true_mask"])),
                folders[name] / str(row["predicted_mask"]),
            )
            drawn = _draw(image_below(root, image), *masks)
            overlays.append(Overlay(name, drawn, float(row["value:dice"])))
        examples.append(OverlayExample(image, place, overlays))
    return examples


def _draw(image: str | Path, true_mask: str | Path, predicted_mask: str | Path) -> str | None:
    picture = open_picture(image, _SIDE)
    masks = [open_picture(mask) for mask in (true_mask, predicted_mask)]
    if picture is None or any(mask is None for mask in masks):
        return None
    picture.thumbnail((2 * _SIDE, 2 * _SIDE))
    pixels = np.asarray(picture).copy()
    for mask, colour in zip(masks, (TRUE_COLOUR, PREDICTED_COLOUR), strict=True):
        assert mask is not None
        small = mask.resize(picture.size, Image.Resampling.NEAREST)
        edge = outline(np.asarray(small)[:, :, 0] > 0)
        thick = edge.copy()
        for shift in ((1, 0), (0, 1)):
            thick |= np.roll(edge, shift, (0, 1))
        pixels[thick] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return encode(Image.fromarray(pixels))
