"""How much labelled data an encoder needs: label efficiency, training sizes and few shots."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dermino.evaluate.metric_names import metric_title
from dermino.report.evaluation import CURVE_AXES, TaskRecord
from dermino.report.exhibit import Exhibit, Panel
from dermino.report.results import Results
from dermino.report.style import Mark, draw

_MEAN = "mean_"
_MOST_PANELS = 4
_FEWEST_POINTS = 2
_APART = 1.45  # Labels of a logarithmic axis that lie nearer to one another run together.


def learning_curves(found: Results, task: TaskRecord, looks: Mapping[str, Mark]) -> list[Exhibit]:
    """Draw each curve that a task was asked: a panel for each headline metric."""
    points = {record.name: record for record in found.curve_points}
    rows = found.table[
        (found.table["task"] == task.name)
        & (found.table["subgroup"] == "all")
        & found.table["protocol"].isin(list(points))
        & found.table["metric"].str.startswith(_MEAN)
        & found.table["value"].notna()
    ]
    rows = rows.assign(
        metric=rows["metric"].str.removeprefix(_MEAN),
        curve=[points[name].curve for name in rows["protocol"]],
        axis=[points[name].point[0] for name in rows["protocol"]],
        at=[points[name].point[1] for name in rows["protocol"]],
    ).sort_values("at", kind="stable")
    titles = {record.curve: record.called for record in found.curve_points}
    exhibits = []
    for curve in titles:
        own = rows[rows["curve"] == curve]
        if own["at"].nunique() >= _FEWEST_POINTS:
            exhibits.append(_exhibit(found, task, curve, titles[curve], own, looks))
    return exhibits


def _exhibit(
    found: Results,
    task: TaskRecord,
    curve: str,
    title: str,
    rows: pd.DataFrame,
    looks: Mapping[str, Mark],
) -> Exhibit:
    present = list(dict.fromkeys(rows["metric"]))
    asked = [name for name in found.headlines(task) if name in present] or present
    panels = []
    for metric in asked[:_MOST_PANELS]:
        name = f"{task.name}-{curve}-{metric}"
        own = rows[rows["metric"] == metric]
        panels.append(Panel(metric_title(metric), _draw(own, looks, metric_title(metric), name)))
    shown = set(rows["encoder"])
    text = (
        "Mean of the draws of the training images; the band reaches from the worst draw to the "
        "best and is no interval for new patients. "
    )
    kept = ["metric", "encoder", "at", "value", "ci_low", "ci_high", "n", "seen_in_pretraining"]
    numbers = rows[kept].rename(columns={"at": rows["axis"].iloc[0]})
    return Exhibit(
        f"{task.name}-{curve}",
        title,
        text.strip(),
        numbers.reset_index(drop=True),
        panels,
        legend=[encoder.name for encoder in found.encoders if encoder.name in shown],
        size="medium",
        across="encoder",
    )


def _draw(rows: pd.DataFrame, looks: Mapping[str, Mark], title: str, name: str) -> Markup:
    axis = str(rows["axis"].iloc[0])

    def paint(axes: Axes) -> None:
        for encoder, own in rows.groupby("encoder", sort=False):
            look = looks[str(encoder)]
            axes.fill_between(
                own["at"], own["ci_low"], own["ci_high"], color=look.colour, alpha=0.13, linewidth=0
            )
            axes.plot(
                own["at"],
                own["value"],
                **look.line,
                marker=look.marker,
                markersize=5,
                linewidth=1.6,
            )
        axes.set_xscale("log")
        labelled: list[float] = []
        for at in sorted(set(rows["at"])):
            if not labelled or at / labelled[-1] >= _APART:
                labelled.append(at)
        axes.xaxis.set_major_locator(FixedLocator(labelled))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:,g}"))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.set(xlabel=CURVE_AXES[axis])
        axes.grid(axis="y")
        axes.tick_params(length=0)

    ends = rows.groupby("encoder", sort=False).tail(1)
    said = "; ".join(f"{row.encoder} ends at {row.value:.3f}" for row in ends.itertuples())
    return draw(310, 240, f"{title} over {CURVE_AXES[axis]}: {said}.", paint, name)
