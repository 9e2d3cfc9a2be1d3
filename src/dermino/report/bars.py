"""Bars with intervals for every dataset, as in Fig. 2 to 5 and 6b of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dermino.evaluate.metric_names import metric_title, smaller_is_better
from dermino.report.evaluation import ProtocolRecord
from dermino.report.exhibit import Exhibit, Panel
from dermino.report.figures import Interval, inner_ticks, write_above
from dermino.report.results import Results
from dermino.report.style import INK, Mark, draw

_ROW = 36
_BOTTOM = 22
_WIDTH = 250


def bar_exhibits(found: Results, looks: Mapping[str, Mark]) -> list[Exhibit]:
    """Draw the headline metrics of each protocol: a panel for each task, a bar for each encoder.

    Metrics have an exhibit each; those of a protocol with a single task share one.
    """
    exhibits = []
    for protocol in found.protocols:
        rows = _headline_rows(found, protocol)
        metrics = list(dict.fromkeys(rows["metric"]))
        if len(set(rows["task"])) > 1:
            exhibits += [_exhibit(found, protocol, [metric], rows, looks) for metric in metrics]
        elif metrics:
            exhibits.append(_exhibit(found, protocol, metrics, rows, looks))
    return exhibits


def _headline_rows(found: Results, protocol: ProtocolRecord) -> pd.DataFrame:
    parts = [
        own[
            (own["protocol"] == protocol.name)
            & own["metric"].isin(found.headlines(task))
            & own["value"].notna()
        ]
        for task in found.tasks
        for own in [found.overall(task.name)]
    ]
    order = {encoder.name: place for place, encoder in enumerate(found.encoders)}
    return pd.concat(parts).sort_values("encoder", key=lambda e: e.map(order), kind="stable")


def _exhibit(
    found: Results,
    protocol: ProtocolRecord,
    metrics: Sequence[str],
    rows: pd.DataFrame,
    looks: Mapping[str, Mark],
) -> Exhibit:
    alone = len(set(rows["task"])) == 1
    titles = [metric_title(metric) for metric in metrics]
    panels = []
    for metric, task in product(metrics, found.tasks):
        of_metric = rows[rows["metric"] == metric]
        own = of_metric[of_metric["task"] == task.name]
        if len(own):
            ends = of_metric[["value", "ci_low", "ci_high"]].to_numpy()
            intervals = list(Interval.of(own).values())
            said = "; ".join(f"{bar.name} {bar.value:.3f}" for bar in intervals)
            alt = f"{task.called}, {metric_title(metric)}. {said}."
            name = f"bars-{protocol.name}-{metric}-{task.name}"
            limits = _limits(float(np.nanmin(ends)), float(np.nanmax(ends)))
            images = "" if own["n"].isna().all() else f"{int(own['n'].max()):,} test images"
            figure = bars(intervals, limits, looks, alt, name)
            panels.append(Panel(metric_title(metric) if alone else task.called, figure, images))
    smaller = [metric_title(metric) for metric in metrics if smaller_is_better(metric)]
    columns = ["task", "metric", "encoder", "value", "ci_low", "ci_high", "n"]
    numbers = rows.loc[rows["metric"].isin(metrics), [*columns, "seen_in_pretraining"]]
    asked = titles[0]
    if alone:
        asked = next(task.called for task in found.tasks if task.name == rows["task"].iloc[0])
    return Exhibit(
        f"bars-{protocol.name}" if alone else f"bars-{protocol.name}-{metrics[0]}",
        f"{protocol.called}: {asked}",
        f"Of {', '.join(smaller)} less is better." if smaller else "",
        numbers.reset_index(drop=True),
        panels,
        across="metric" if alone else "task",
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
            axes.barh(place, row.value, height=0.3, color=looks[row.name].colour)
            if not math.isnan(row.low):
                axes.plot([row.low, row.high], [place] * 2, color=INK, linewidth=1.3)
                axes.plot(
                    [row.low, row.high], [place] * 2, "|", color=INK, markersize=6, linewidth=0
                )
            write_above(axes, place, row)
        axes.set(xlim=limits, ylim=(-0.35, len(rows) - 0.2), yticks=[])
        axes.set_xticks(inner_ticks(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]), limits))
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
