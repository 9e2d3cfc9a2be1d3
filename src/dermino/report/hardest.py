"""The hardest cases: test images that encoders are sure of and wrong about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermino.report.pictures import image_below, square_thumbnail
from dermino.report.reliability import is_probability
from dermino.report.results import scores


@dataclass(frozen=True)
class Verdict:
    """What an encoder said of an image, how sure it was of it, and of the true class."""

    encoder: str
    predicted: str
    confidence: float
    truth: float
    right: bool


@dataclass(frozen=True)
class HardCase:
    """A test image with what all encoders said; ``data`` is None where the picture is gone."""

    image: str
    target: str
    data: str | None
    verdicts: list[Verdict]


def hardest_cases(
    predictions: Mapping[str, pd.DataFrame], root: str, number: int
) -> list[HardCase]:
    """Choose the images whose true class is furthest below the predicted one.

    The distance between the probability of the predicted and of the true class is averaged over
    the encoders; images that all classify right are never chosen. An image comes once a file.

    Parameters
    ----------
    predictions:
        Of each encoder, with one class an image; those without probabilities are left out.
    root:
        Folder that the images are relative to.
    number:
        How many, at most.
    """
    judged = {
        name: _judge(frame)
        for name, frame in predictions.items()
        if is_probability(scores(frame).to_numpy(np.float64))
    }
    if not judged:
        return []
    distances = pd.concat(
        {name: frame["confidence"] - frame["truth"] for name, frame in judged.items()},
        axis="columns",
        join="inner",
    ).mean(axis="columns")
    distances = distances[distances > 0].sort_index().sort_values(ascending=False, kind="stable")
    cases = []
    for image in distances.index[:number]:
        verdicts = []
        for name, frame in judged.items():
            row = frame.loc[image]
            said, target = str(row["predicted"]), str(row["target"])
            sure, truth = float(row["confidence"]), float(row["truth"])
            verdicts.append(Verdict(name, said, sure, truth, said == target))
        picture = square_thumbnail(image_below(root, str(image)))
        cases.append(HardCase(str(image), target, picture, verdicts))
    return cases


def _judge(frame: pd.DataFrame) -> pd.DataFrame:
    given = scores(frame)
    names = list(given.columns)
    place = [names.index(target) if target in names else -1 for target in frame["target"]]
    values = given.to_numpy(np.float64)
    truth = values[np.arange(len(values)), place]
    judged = frame[["image", "target", "predicted"]].assign(
        confidence=values.max(axis=1), truth=np.where(np.array(place) < 0, 0.0, truth)
    )
    return judged.drop_duplicates("image").set_index("image")
