"""Bars with intervals for every dataset, as in Fig. 2 to 5 and 6b of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dermino.report.exhibit import Exhibit, Panel
from dermino.report.figures import Interval, shortened
from dermino.report.metric_names import metric_title, smaller_is_better
from dermino.report.results import ProtocolRecord, Results
from dermino.report.seen import explain_marks
from dermino.report.style import INK, MUTED, Mark, draw

_ROW = 33
_BOTTOM = 22
_WIDTH = 250


def bar_exhibits(found: Results, looks: Mapping[str, Mark]) -> list[Exhibit]:
    """Draw each headline metric of each protocol: a panel for each task, a bar for each encoder."""
    exhibits = []
    headlines = {task.name: found.headlines(task) for task in found.tasks}
    metrics = dict.fromkeys(metric for names in headlines.values() for metric in names)
    for protocol in found.protocols:
        for metric in metrics:
            rows = found.plain[
                (found.plain["protocol"] == protocol.name)
                & (found.plain["metric"] == metric)
                & (found.plain["subgroup"] == "all")
                & found.plain["value"].notna()
                & found.plain["task"].isin(
                    [task for task in headlines if metric in headlines[task]]
                )
            ]
            if len(rows):
                exhibits.append(_exhibit(found, protocol, metric, rows, looks))
    return exhibits


def _exhibit(
    found: Results,
    protocol: ProtocolRecord,
    metric: str,
    rows: pd.DataFrame,
    looks: Mapping[str, Mark],
) -> Exhibit:
    name = f"bars-{protocol.name}-{metric}"
    ends = rows[["value", "ci_low", "ci_high"]].to_numpy()
    limits = _limits(float(pd.Series(ends.ravel()).min()), float(pd.Series(ends.ravel()).max()))
    order = {encoder.name: place for place, encoder in enumerate(found.encoders)}
    panels = []
    for task in found.tasks:
        own = rows[rows["task"] == task.name].sort_values("encoder", key=lambda e: e.map(order))
        if len(own):
            intervals = list(Interval.of(own).values())
            said = "; ".join(f"{bar.name} {bar.value:.3f}" for bar in intervals)
            alt = f"{task.called}, {metric_title(metric)}. {said}."
            figure = bars(intervals, limits, looks, alt, f"{name}-{task.name}")
            images = f"{int(own['n'].max()):,} test images" if own["n"].notna().any() else ""
            panels.append(Panel(task.called, figure, images))
    better = "The smaller the better. " if smaller_is_better(metric) else ""
    marks = explain_marks(rows["seen_in_pretraining"])
    columns = ["task", "encoder", "value", "ci_low", "ci_high", "n", "seen_in_pretraining"]
    return Exhibit(
        name,
        f"{protocol.called}: {metric_title(metric)}",
        f"{better}{marks}".strip(),
        rows[columns].reset_index(drop=True),
        panels,
        across="task",
    )


def bars(
    rows: Sequence[Interval],
    limits: tuple[float, float],
    looks: Mapping[str, Mark],
    alt: str,
    name: str,
) -> Markup:
    """Draw a bar with its interval for each encoder, names and values above the bars.

    Parameters
    ----------
    rows:
        From top to bottom.
    limits:
        Ends of the axis, which holds zero.
    looks, alt, name:
        See :func:`dermino.report.style.draw`.
    """
    height = _BOTTOM + _ROW * len(rows)

    def paint(axes: Axes) -> None:
        for place, row in enumerate(reversed(rows)):
            axes.barh(place, row.value, height=0.34, color=looks[row.name].colour)
            if not math.isnan(row.low):
                axes.plot([row.low, row.high], [place] * 2, color=INK, linewidth=1.3)
                axes.plot(
                    [row.low, row.high], [place] * 2, "|", color=INK, markersize=6, linewidth=0
                )
            for x, side, colour, text in (
                (0, "left", INK, shortened(row.name) + row.mark),
                (1, "right", MUTED, f"{row.value:.3f}"),
            ):
                axes.text(
                    x,
                    place + 0.2,
                    text,
                    transform=axes.get_yaxis_transform(),
                    horizontalalignment=side,
                    color=colour,
                    parse_math=False,
                )
        axes.set(xlim=limits, ylim=(-0.35, len(rows) - 0.15), yticks=[])
        ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(*limits)
        edge = 0.08 * (limits[1] - limits[0])  # Leaves room for half a label at either end.
        axes.set_xticks([t for t in ticks if limits[0] + edge < t < limits[1] - edge])
        axes.tick_params(length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)

    bottom = _BOTTOM / height
    return draw(_WIDTH, height, alt, paint, name, (0.01, bottom, 0.98, 1 - bottom))


def _limits(lowest: float, highest: float) -> tuple[float, float]:
    """Bars start at zero; shares share the axis from 0 to 1."""
    if lowest >= 0 and highest <= 1:
        return 0.0, 1.0
    return min(0.0, lowest * 1.05), max(0.0, highest * 1.05)
