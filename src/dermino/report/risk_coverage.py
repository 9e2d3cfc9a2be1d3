"""What abstaining buys: the error among the images an encoder is surest of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from dermino.evaluate.calibration.selective import RiskCoverage
from dermino.report.exhibit import Exhibit, Panel
from dermino.report.results import scores
from dermino.report.style import Mark, draw

_POINTS = 200
_KEPT = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_STEADY = 0.05  # Of fewer images the error is mostly chance.


def risk_at(predictions: pd.DataFrame, coverage: np.ndarray) -> np.ndarray:
    """Return the share of wrong answers among the images of highest confidence.

    Parameters
    ----------
    predictions:
        With ``target``, ``predicted`` and ``score:<class>``.
    coverage:
        Shares of the images that are answered, above 0, shape (m,).

    Returns
    -------
    np.ndarray
        (m,). Images of equal confidence count by their mean error, so their order is immaterial.
    """
    confidence = scores(predictions).to_numpy(np.float64).max(axis=1)
    wrong = (predictions["target"] != predictions["predicted"]).to_numpy(bool)
    return RiskCoverage(confidence, wrong).error_curve(coverage)


def risk_coverage(
    predictions: Mapping[str, pd.DataFrame], looks: Mapping[str, Mark], task: str, asked: str
) -> Exhibit | None:
    """Draw the error over the share of images answered, for each encoder.

    Parameters
    ----------
    predictions, looks, task, asked:
        As for :func:`dermino.report.reliability.reliability`.
    """
    usable = {
        name: frame
        for name, frame in predictions.items()
        if np.isfinite(scores(frame).to_numpy(np.float64)).all() and len(frame) > 1
    }
    if not usable:
        return None
    coverage = np.linspace(_STEADY, 1, _POINTS)
    curves = {name: risk_at(frame, coverage) for name, frame in usable.items()}

    def paint(axes: Axes) -> None:
        for name, risk in curves.items():
            axes.plot(coverage, risk, **looks[name].line, linewidth=1.5)
        axes.set(xlim=(0, 1.01), xlabel="images answered", ylabel="wrong among them")
        axes.set_ylim(bottom=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.locator_params(nbins=5)
        axes.grid()

    shares = np.array(_KEPT)
    table = {name: risk_at(frame, shares) for name, frame in usable.items()}
    values = [(name, f"{100 * risk[3]:.1f} %") for name, risk in table.items()]
    said = "; ".join(f"{name} {value}" for name, value in values)
    alt = f"Error over the share of images answered. At 80 %: {said}."
    panel = Panel(
        asked,
        draw(300, 290, alt, paint, f"{task}-risk-coverage"),
        "below: wrong among the surest 80 %",
        values,
    )
    numbers = pd.DataFrame(
        [
            {"encoder": name, "images_answered": share, "wrong": value}
            for name, risk in table.items()
            for share, value in zip(_KEPT, risk, strict=True)
        ]
    )
    return Exhibit(
        f"{task}-risk-coverage",
        "Risk and coverage",
        "Images in the order of an encoder's confidence: how many of those answered are wrong if "
        "the least sure ones are left to a person.",
        numbers,
        [panel],
        size="medium",
    )
