"""Do the probabilities mean what they say: reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dermino.evaluate.calibration.reliability import BINS, Bins
from dermino.report.exhibit import Exhibit, Panel
from dermino.report.results import scores
from dermino.report.style import RULE, Mark, draw


def reliability_table(predictions: pd.DataFrame) -> pd.DataFrame | None:
    """Compare how sure an encoder is with how often it is right.

    Parameters
    ----------
    predictions:
        With ``target``, ``predicted`` and ``score:<class>``.

    Returns
    -------
    pd.DataFrame or None
        One row for each bin of the confidence that has images: ``confidence`` (mean),
        ``accuracy`` and ``images``. None if the scores are no probabilities.
    """
    given = scores(predictions).to_numpy(np.float64)
    if not is_probability(given):
        return None
    confidence = given.max(axis=1)
    right = (predictions["target"] == predictions["predicted"]).to_numpy(np.float64)
    place = Bins.equal_width(BINS).of(confidence)
    table = pd.DataFrame({"place": place, "confidence": confidence, "accuracy": right, "images": 1})
    return table.groupby("place").agg({"confidence": "mean", "accuracy": "mean", "images": "sum"})


def is_probability(given: np.ndarray) -> bool:
    """Whether scores (n, C) are shares that add up to one."""
    if not given.size or not np.isfinite(given).all() or given.min() < 0:
        return False
    return bool(np.allclose(given.sum(axis=1), 1, atol=1e-3))


def calibration_error(table: pd.DataFrame) -> float:
    """Return the mean distance of confidence and accuracy over the images (ECE)."""
    distance = (table["confidence"] - table["accuracy"]).abs()
    return float(np.average(distance, weights=table["images"]))


def reliability(
    predictions: Mapping[str, pd.DataFrame], looks: Mapping[str, Mark], task: str, asked: str
) -> Exhibit | None:
    """Draw the reliability of the predicted class for each encoder.

    Parameters
    ----------
    predictions:
        Of each encoder, by one protocol.
    looks:
        The look of each encoder.
    task, asked:
        The task's name; the protocol as people call it.
    """
    tables = {name: reliability_table(frame) for name, frame in predictions.items()}
    known = {name: table for name, table in tables.items() if table is not None}
    if not known:
        return None

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        for name, table in known.items():
            look = looks[name]
            axes.plot(
                table["confidence"],
                table["accuracy"],
                **look.line,
                marker=look.marker,
                markersize=4.5,
                linewidth=1.4,
            )
        axes.set(
            xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy", aspect="equal"
        )
        axes.locator_params(nbins=5)
        axes.grid()

    errors = {name: calibration_error(table) for name, table in known.items()}
    said = "; ".join(f"{name} {error:.3f}" for name, error in errors.items())
    alt = f"Accuracy against confidence. Expected calibration error: {said}."
    panel = Panel(
        asked,
        draw(300, 290, alt, paint, f"{task}-reliability"),
        "below: expected calibration error",
        [(name, f"{error:.3f}") for name, error in errors.items()],
    )
    numbers = pd.concat([table.assign(encoder=name) for name, table in known.items()])
    columns = ["encoder", "confidence", "accuracy", "images"]
    return Exhibit(
        f"{task}-reliability",
        "Reliability",
        f"How often the predicted class is right where an encoder is so sure of it, in {BINS} bins "
        "of the confidence. Below the diagonal it is surer than it may be.",
        numbers[columns].reset_index(drop=True),
        [panel],
        size="medium",
    )
