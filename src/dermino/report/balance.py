"""How well each encoder does at each family of tasks: the heat map of Fig. 5d of the paper."""

from __future__ import annotations

import pandas as pd

from dermino.evaluate.metric_names import metric_title, smaller_is_better
from dermino.report.exhibit import Exhibit, Grid, GridCell, shade
from dermino.report.results import Results
from dermino.report.seen import seen_mark

_DARKEST = 0.75


def balance(found: Results) -> Exhibit | None:
    """Average each encoder's first headline metric over the tasks of a protocol.

    Only tasks that all encoders of a protocol have answered count, so that a mean compares like
    with like.

    Returns
    -------
    Exhibit or None
        None with fewer than two encoders or two families.
    """
    first = {task.name: metric for task in found.tasks for metric in found.headlines(task)[:1]}
    table = found.plain
    chosen = table[
        (table["subgroup"] == "all")
        & table["value"].notna()
        & (table["metric"] == table["task"].map(first))
    ]
    families = []
    for (protocol, metric), rows in chosen.groupby(["protocol", "metric"], sort=False):
        values = rows.pivot_table(index="task", columns="encoder", values="value").dropna()
        if len(values.columns) > 1 and len(values):
            seen = rows[rows["task"].isin(values.index)].groupby("encoder")["seen_in_pretraining"]
            mark = seen.agg(lambda flags: max((seen_mark(flag) for flag in flags), key=_severity))
            families.append(
                pd.DataFrame(
                    {
                        "protocol": protocol,
                        "metric": metric,
                        "tasks": len(values),
                        "value": values.mean(),
                        "mark": mark,
                    }
                ).rename_axis("encoder")
            )
    if len(families) < 2:
        return None
    numbers = pd.concat([family.reset_index() for family in families], ignore_index=True)
    text = (
        "Means over the tasks that all encoders were asked. Each column is shaded from its lowest "
        "value (white) to its highest; differences between columns mean nothing."
    )
    return Exhibit(
        "balance",
        "Balance over families of tasks",
        text,
        numbers.drop(columns="mark").assign(family=_family(numbers))[
            ["encoder", "family", "tasks", "value"]
        ],
        grids=[_grid(found, families)],
    )


def _grid(found: Results, families: list[pd.DataFrame]) -> Grid:
    titles = {protocol.name: protocol.called for protocol in found.protocols}
    columns = []
    for family in families:
        protocol, metric, tasks = family[["protocol", "metric", "tasks"]].iloc[0]
        plural = "task" if tasks == 1 else "tasks"
        columns.append(f"{titles[protocol]}: {metric_title(metric)}, {tasks} {plural}")
    rows = []
    for encoder in found.encoders:
        cells = []
        for family in families:
            if encoder.name not in family.index:
                cells.append(GridCell("–"))
                continue
            value = float(family["value"][encoder.name])
            low, high = float(family["value"].min()), float(family["value"].max())
            share = (value - low) / (high - low) if high > low else 0.0
            if smaller_is_better(str(family["metric"].iloc[0])):
                share = 1 - share
            text = f"{value:.3f}{family['mark'][encoder.name]}"
            cells.append(GridCell(text, "", *shade(_DARKEST * share)))
        rows.append((encoder.name, cells))
    return Grid(columns, rows)


def _family(numbers: pd.DataFrame) -> pd.Series:
    return numbers["protocol"] + ", " + numbers["metric"]


def _severity(mark: str) -> int:
    return ("", "*", "†", "‡").index(mark)
