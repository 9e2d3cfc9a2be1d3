"""How results differ between groups of patients, as in Fig. 6a of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dermino.evaluate.metric_names import metric_title
from dermino.report.evaluation import TaskRecord
from dermino.report.exhibit import Exhibit, Grid, GridCell, Panel
from dermino.report.figures import inner_ticks
from dermino.report.results import Results
from dermino.report.style import INK, MUTED, Mark, draw

_MOST_PANELS = 8
_HEADING = 26
_LINE = 15
_BOTTOM = 24
# Points of reliability diagrams and risk-coverage curves are kept as subgroups too.
_NO_GROUPS = ("confidence", "scaled_confidence", "coverage")
_COLUMNS = {"skin_type": "skin type", "sex": "sex", "age": "age"}
_ENDS = ["value", "ci_low", "ci_high"]


def fairness_exhibits(found: Results, task: TaskRecord, looks: Mapping[str, Mark]) -> list[Exhibit]:
    """Draw the values of every group of each column that results were divided by.

    The first eight pairs of protocol and metric are drawn, headline metrics first; the numbers
    hold all. Gaps between groups are told in a table below.
    """
    rows = found.plain[
        (found.plain["task"] == task.name) & found.plain["subgroup"].str.contains("=", regex=False)
    ]
    rows = rows.assign(
        column=[name.partition("=")[0] for name in rows["subgroup"]],
        group=[name.partition("=")[2] for name in rows["subgroup"]],
    )
    return [
        _exhibit(found, task, str(column), own, looks)
        for column, own in rows.groupby("column", sort=False)
        if column not in _NO_GROUPS and own["value"].notna().any()
    ]


def _exhibit(
    found: Results, task: TaskRecord, column: str, rows: pd.DataFrame, looks: Mapping[str, Mark]
) -> Exhibit:
    headlines = found.headlines(task)
    metrics = sorted(
        dict.fromkeys(rows.loc[rows["value"].notna(), "metric"]),
        key=lambda name: headlines.index(name) if name in headlines else len(headlines),
    )
    pairs = [
        (protocol, metric)
        for metric in metrics
        for protocol in found.protocols
        if rows.loc[rows["metric"] == metric, "protocol"].eq(protocol.name).any()
    ]
    panels = []
    for protocol, metric in pairs[:_MOST_PANELS]:
        own = rows[(rows["protocol"] == protocol.name) & (rows["metric"] == metric)]
        name = f"{task.name}-by-{column}-{protocol.name}-{metric}"
        title = f"{protocol.called}: {metric_title(metric)}"
        panels.append(Panel(title, _draw(found, own, looks, title, name)))
    text = (
        "Values of each group with their intervals. Groups differ in how hard their images are and "
        "which diagnoses they have; a difference alone is no proof of bias. "
    )
    if rows["note"].str.contains("few|only").any():
        text += "Groups marked (few) have few images, or few of a class: they settle nothing. "
    kept = ["protocol", "metric", "encoder", "group", *_ENDS, "n", "seen_in_pretraining", "note"]
    shown = set(rows["encoder"])
    return Exhibit(
        f"{task.name}-by-{column}",
        f"By {_COLUMNS.get(column, column.replace('_', ' '))}",
        text.strip(),
        rows[kept].reset_index(drop=True),
        panels,
        _gaps(found, task, column),
        [encoder.name for encoder in found.encoders if encoder.name in shown],
        size="medium",
        across="group",
    )


def _draw(
    found: Results, rows: pd.DataFrame, looks: Mapping[str, Mark], title: str, name: str
) -> Markup:
    groups = list(dict.fromkeys(rows["group"]))
    encoders = [e.name for e in found.encoders if rows["encoder"].eq(e.name).any()]
    block = _HEADING + _LINE * len(encoders)
    height = _BOTTOM + block * len(groups)
    ends = rows[_ENDS].to_numpy().ravel()
    low, high = float(pd.Series(ends).min()), float(pd.Series(ends).max())
    margin = max(0.02, 0.06 * (high - low))

    def paint(axes: Axes) -> None:
        for place, group in enumerate(groups):
            own = rows[rows["group"] == group].set_index("encoder")
            top = -place * block
            axes.text(
                0,
                top - 16,
                _heading(group, own),
                transform=axes.get_yaxis_transform(),
                color=INK,
                parse_math=False,
            )
            if own["value"].isna().all():
                middle = top - _HEADING - _LINE * len(encoders) / 2
                axes.text((low + high) / 2, middle, "undefined", color=MUTED, ha="center")
            for line, encoder in enumerate(encoders):
                if encoder in own.index:
                    value, start, stop = own.loc[encoder, _ENDS]
                    at, look = top - _HEADING - _LINE * (line + 0.35), looks[encoder]
                    axes.plot([start, stop], [at] * 2, color=look.colour, linewidth=1.8)
                    axes.plot(value, at, marker=look.marker, color=look.colour, markersize=6)
        limits = (low - margin, high + margin)
        axes.set(xlim=limits, ylim=(-block * len(groups), 0), yticks=[])
        axes.set_xticks(inner_ticks(MaxNLocator(5, steps=[1, 2, 5, 10]), limits))
        axes.tick_params(length=0, labelcolor=MUTED)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)

    said = "; ".join(
        f"{row['group']} {row['encoder']} {row['value']:.3f}"
        for row in rows.dropna(subset="value").to_dict("records")
    )
    bottom = _BOTTOM / height
    return draw(310, height, f"{title}. {said}.", paint, name, (0.01, bottom, 0.98, 1 - bottom))


def _heading(group: str, rows: pd.DataFrame) -> str:
    images = int(rows["n"].max()) if rows["n"].notna().any() else 0
    few = " (few)" if rows["note"].str.contains("few|only").any() else ""
    return f"{group}, {images:,} images{few}"


def _gaps(found: Results, task: TaskRecord, column: str) -> list[Grid]:
    """Arrange gaps between the groups of a column: encoders by metric, for each protocol."""
    rows = found.plain[(found.plain["task"] == task.name) & (found.plain["subgroup"] == column)]
    rows = rows[rows["value"].notna()]
    if rows.empty:
        return []
    titles = {protocol.name: protocol.called for protocol in found.protocols}
    grids = []
    for protocol, own in rows.groupby("protocol", sort=False):
        metrics = list(dict.fromkeys(own["metric"]))
        by_cell = {
            (row["encoder"], row["metric"]): [float(row[end]) for end in _ENDS]
            for row in own.to_dict("records")
        }
        body: list[tuple[str, Sequence[GridCell]]] = [
            (encoder.name, [_gap(by_cell.get((encoder.name, metric))) for metric in metrics])
            for encoder in found.encoders
            if own["encoder"].eq(encoder.name).any()
        ]
        title = f"{titles[str(protocol)]}: gaps between the groups"
        grids.append(Grid([metric_title(metric) for metric in metrics], body, title))
    return grids


def _gap(ends: Sequence[float] | None) -> GridCell:
    if ends is None:
        return GridCell("–")
    value, low, high = ends
    return GridCell(f"{value:.3f}", "" if math.isnan(low) else f"{low:.3f}–{high:.3f}")
