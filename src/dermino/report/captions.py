"""Examples of captions, as in Supplementary Table 3 and Fig. 5c of the paper."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dermino.report.pictures import image_below, square_thumbnail

_NEEDED = {"image", "reference", "generated"}


@dataclass(frozen=True)
class CaptionExample:
    """A test image, its own caption and what was written with each encoder."""

    image: str
    data: str | None
    reference: str
    generated: list[tuple[str, str]]


def caption_examples(
    predictions: Mapping[str, pd.DataFrame], root: str, number: int, seed: int
) -> list[CaptionExample]:
    """Draw test images at random and lay the captions of all encoders side by side.

    Parameters
    ----------
    predictions:
        Of each encoder, with ``reference`` and ``generated``.
    root:
        Folder that the images are relative to.
    number, seed:
        How many, and the seed of the draw.
    """
    usable = {
        name: frame.drop_duplicates("image").set_index("image")
        for name, frame in predictions.items()
        if set(frame.columns) >= _NEEDED
    }
    if not usable:
        return []
    shared = sorted(set.intersection(*(set(frame.index) for frame in usable.values())))
    chosen = random.Random(seed).sample(shared, min(number, len(shared)))
    first = next(iter(usable.values()))
    return [
        CaptionExample(
            image,
            square_thumbnail(image_below(root, image)),
            str(first.loc[image, "reference"]),
            [(name, str(frame.loc[image, "generated"])) for name, frame in usable.items()],
        )
        for image in chosen
    ]
