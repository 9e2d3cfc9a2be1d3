"""Test images beside the training images that an encoder finds most similar."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from dermino.report.pictures import image_below, square_thumbnail

NEIGHBOURS = 5
_MOST_EXAMPLES = 8
_FEWEST_EXAMPLES = 2
_THUMBNAILS_A_PAGE = 800  # About 4 KB each, so a page stays near 4 MB however much it shows.
_ANSWERS = ("target", "predicted", "neighbour_targets")


@dataclass(frozen=True)
class Picture:
    """A thumbnail with its true class, if it has one.

    ``data`` is a data URI, or None where the file is gone; ``right`` tells whether a
    neighbour has the class of the test image.
    """

    data: str | None
    label: str | None = None
    right: bool | None = None


@dataclass(frozen=True)
class Answer:
    """What one encoder made of a test image; without labels only the neighbours."""

    encoder: str
    neighbours: list[Picture]
    predicted: str | None = None
    right: bool | None = None


@dataclass(frozen=True)
class Example:
    """A test image and the answers of all encoders."""

    picture: Picture
    image: str
    answers: list[Answer]


def examples_a_task(tasks: int, encoders: int) -> int:
    """Return how many test images a task may show so that the page stays small."""
    each = max(1, tasks) * (1 + NEIGHBOURS * max(1, encoders))
    return max(_FEWEST_EXAMPLES, min(_MOST_EXAMPLES, _THUMBNAILS_A_PAGE // each))


def gallery(
    predictions: Mapping[str, pd.DataFrame],
    root: str | Path,
    number: int,
    seed: int,
    labelled: bool = True,
) -> list[Example]:
    """Choose test images and lay each beside its neighbours.

    Half are images that most encoders classify right, half are others; see :func:`choose`. Of
    images without labels any are drawn.

    Parameters
    ----------
    predictions:
        The retrieval predictions of each encoder, with ``neighbours`` and, where ``labelled``,
        ``target``, ``predicted`` and ``neighbour_targets``.
    root:
        Folder that the images are relative to.
    number:
        How many test images.
    seed:
        Of the choice.
    labelled:
        Whether there are true classes to show.
    """
    needed = ["neighbours", *(_ANSWERS if labelled else ())]
    indexed = {
        name: frame.drop_duplicates("image").set_index("image")[needed]
        for name, frame in predictions.items()
        if set(needed) <= set(frame.columns)
    }
    thumbnail = cache(lambda image: square_thumbnail(image_below(str(root), image)))
    chosen = choose(indexed, number, seed) if labelled else draw(indexed, number, seed)
    rows = {name: frame.loc[chosen].to_dict("index") for name, frame in indexed.items()}
    examples = []
    for image in chosen:
        answers = [_answer(name, found[image], thumbnail) for name, found in rows.items()]
        target = next(iter(rows.values()))[image].get("target")
        examples.append(Example(Picture(thumbnail(image), target), image, answers))
    return examples


def _answer(encoder: str, row: Mapping[Any, Any], thumbnail: Callable[[str], str | None]) -> Answer:
    pictures = [thumbnail(image) for image in row["neighbours"][:NEIGHBOURS]]
    if "target" not in row:
        return Answer(encoder, [Picture(picture) for picture in pictures])
    target, predicted = str(row["target"]), str(row["predicted"])
    neighbours = [
        Picture(picture, label, label == target)
        for picture, label in zip(pictures, row["neighbour_targets"], strict=False)
    ]
    return Answer(encoder, neighbours, predicted, predicted == target)


def draw(predictions: Mapping[str, pd.DataFrame], number: int, seed: int) -> list[str]:
    """Draw test images that all encoders were asked, when there are no labels to choose by."""
    if not predictions:
        return []
    shared = set.intersection(*(set(frame.index) for frame in predictions.values()))
    return random.Random(seed).sample(sorted(shared), min(number, len(shared)))


def choose(predictions: Mapping[str, pd.DataFrame], number: int, seed: int) -> list[str]:
    """Choose test images by a rule that favours no encoder.

    One half are images that more than half of the encoders classify right, the other half are
    the rest. In each half the classes take turns, in a drawn order that goes on from the first
    half to the second; within a class the images are drawn. Where one half runs out of images,
    the other fills up.

    Parameters
    ----------
    predictions:
        Indexed by image, with ``target`` and ``predicted``, for each encoder.
    number, seed:
        How many, and the seed of the draws.
    """
    if not predictions:
        return []
    correct = pd.concat(
        [frame["target"] == frame["predicted"] for frame in predictions.values()],
        axis="columns",
        join="inner",
    )
    easy = correct.mean(axis="columns") > 0.5
    targets = next(iter(predictions.values()))["target"].loc[correct.index]
    draw = random.Random(seed)
    classes = sorted(targets.unique())
    draw.shuffle(classes)
    first = _in_turns(targets[easy], classes, draw)
    shown = number // 2 % max(1, len(classes))
    second = _in_turns(targets[~easy], classes[shown:] + classes[:shown], draw)
    wrong = second[: number // 2]
    right = first[: number - len(wrong)]
    return right + second[: number - len(right)]


def _in_turns(targets: pd.Series, classes: list[str], draw: random.Random) -> list[str]:
    """Order images so that the classes take turns, drawn at random within a class."""
    piles = []
    for label in classes:
        images = sorted(targets.index[targets == label])
        draw.shuffle(images)
        piles.append(images)
    return [image for turn in zip_longest(*piles) for image in turn if image is not None]
