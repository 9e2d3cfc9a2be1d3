"""The panels of the page: intervals, ROC curves and training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dermino.report.seen import seen_mark
from dermino.report.style import INK, MUTED, RULE, Mark, draw

_TICK_LABELS = 22
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; ``low`` and ``high`` are NaN where there is none.

    ``mark`` follows the name: it tells whether the test images were seen in pretraining.
    """

    name: str
    value: float
    low: float
    high: float
    mark: str = ""

    @classmethod
    def of(cls, rows: pd.DataFrame) -> dict[str, Interval]:
        """Return the interval of each encoder among rows of the results table."""
        return {
            str(row["encoder"]): cls(
                str(row["encoder"]),
                float(row["value"]),
                float(row["ci_low"]),
                float(row["ci_high"]),
                seen_mark(str(row["seen_in_pretraining"])),
            )
            for row in rows.to_dict("records")
        }


@dataclass(frozen=True)
class Series:
    """A curve; x and y have the same shape (n,)."""

    name: str
    x: np.ndarray
    y: np.ndarray


def intervals(
    rows: Sequence[Interval],
    limits: tuple[float, float],
    looks: Mapping[str, Mark],
    alt: str,
    name: str,
) -> Markup:
    """Draw a dot with its interval for each encoder, names above the lines.

    Parameters
    ----------
    rows:
        From top to bottom.
    limits:
        Ends of the axis; the same for all panels of a metric, so that they can be compared.
    looks:
        The look of each encoder.
    alt, name:
        See :func:`dermino.report.style.draw`.
    """

    panel_height = _TICK_LABELS + 38 * len(rows)

    def paint(axes: Axes) -> None:
        for height, row in enumerate(reversed(rows)):
            look = looks[row.name]
            axes.plot([row.low, row.high], [height] * 2, color=look.colour, linewidth=2.2)
            axes.plot(row.value, height, marker=look.marker, color=look.colour, markersize=7)
            write_above(axes, height, row)
        axes.set(xlim=limits, ylim=(-0.35, len(rows) - 0.2), yticks=[])
        axes.set_xticks(inner_ticks(MaxNLocator(5, steps=[1, 2, 5, 10]), limits))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)

    bottom = _TICK_LABELS / panel_height
    position = (0.005, bottom, 0.99, 1 - bottom)
    return draw(250, panel_height, alt, paint, name, position)


def write_above(axes: Axes, height: float, row: Interval) -> None:
    """Write name and value of an interval that is drawn at ``height``, which is counted in rows."""
    for x, side, colour, text in (
        (0, "left", INK, shortened(row.name) + row.mark),
        (1, "right", MUTED, f"{row.value:.3f}"),
    ):
        axes.text(
            x,
            height + 0.24,
            text,
            transform=axes.get_yaxis_transform(),
            horizontalalignment=side,
            color=colour,
            parse_math=False,
        )


def inner_ticks(locator: MaxNLocator, limits: tuple[float, float]) -> list[float]:
    """Return the ticks of an axis that leave room for half a label at either end."""
    low, high = limits
    edge = 0.08 * (high - low)
    return [tick for tick in locator.tick_values(low, high) if low + edge < tick < high - edge]


def shortened(name: str) -> str:
    """Return a name that fits above a line; a long one loses its middle."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def roc(curves: Sequence[Series], looks: Mapping[str, Mark], alt: str, name: str) -> Markup:
    """Draw ROC curves, one for each encoder, over the diagonal of chance.

    Parameters
    ----------
    curves:
        1 - specificity and sensitivity, both from 0 to 1.
    looks, alt, name:
        See :func:`intervals`.
    """

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        for curve in curves:
            axes.plot(curve.x, curve.y, **looks[curve.name].line, linewidth=1.5)
        ticks = [0, 0.5, 1]
        axes.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            xticks=ticks,
            yticks=ticks,
            xticklabels=["0", "0.5", "1"],
            yticklabels=["0", "0.5", "1"],
            xlabel="1 − specificity",
            ylabel="sensitivity",
            aspect="equal",
        )
        axes.grid()

    return draw(230, 230, alt, paint, name)


def training(
    raw: Sequence[Series],
    smooth: Sequence[Series],
    looks: Mapping[str, Mark],
    alt: str,
    name: str,
) -> Markup:
    """Draw one logged quantity over the steps: as logged in pale, smoothed in full colour.

    Parameters
    ----------
    raw, smooth:
        A curve of each run; x are steps.
    looks, alt, name:
        See :func:`intervals`; looks are those of the runs.
    """

    def paint(axes: Axes) -> None:
        for curve in raw:
            axes.plot(curve.x, curve.y, color=looks[curve.name].colour, alpha=0.25, linewidth=0.7)
        for curve in smooth:
            look = looks[curve.name]
            axes.plot(curve.x, curve.y, **look.line, linewidth=1.6)
            axes.plot(
                curve.x[-1:], curve.y[-1:], marker=look.marker, color=look.colour, markersize=4.5
            )
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        axes.set_xlabel("step")
        axes.tick_params(length=0)
        axes.xaxis.label.set_color(MUTED)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_color(INK)

    return draw(310, 200, alt, paint, name)
