"""Which encoders differ on a task: matrices of paired differences from ``comparisons.csv``."""

from __future__ import annotations

import pandas as pd

from dermino.evaluate.metric_names import metric_title, smaller_is_better
from dermino.report.evaluation import TaskRecord
from dermino.report.exhibit import Exhibit, Grid, GridCell
from dermino.report.results import Results

_LEVEL = 0.05
_BETTER, _WORSE = "#cfe4f3", "#fbe1cb"
# The tests in the order of preference; the paper's only where nothing else was asked for.
_TESTS = {
    "delong": "DeLong's test",
    "permutation": "a paired permutation test",
    "bootstrap": "a paired bootstrap",
    "mcnemar": "McNemar's test",
    "paper-t-test": "the paper's t-test over replicates, which calls any difference significant",
}


def significance(found: Results, task: TaskRecord) -> Exhibit | None:
    """Arrange the differences between encoders; one matrix for each protocol and metric.

    Returns
    -------
    Exhibit or None
        None where ``dermino compare`` has not been run, or left nothing about the task.
    """
    rows = found.comparisons[found.comparisons["task"] == task.name]
    # Points of a learning curve are compared for one draw only; their curves say more.
    plain = [protocol.name for protocol in found.protocols]
    rows = rows[rows["test"].isin(_TESTS) & rows["p_holm"].notna() & rows["protocol"].isin(plain)]
    if rows.empty:
        return None
    order = {name: place for place, name in enumerate(_TESTS)}
    rows = rows.sort_values("test", key=lambda tests: tests.map(order), kind="stable")
    rows = rows.drop_duplicates(["protocol", "metric", "encoder", "other"])
    grids = []
    titles = {protocol.name: protocol.called for protocol in found.protocols}
    for key, own in rows.sort_index().groupby(["protocol", "metric"], sort=False):
        protocol, metric = map(str, key)
        title = f"{titles[protocol]}: {metric_title(metric)}"
        grids.append(_matrix(found, own, title, smaller_is_better(metric)))
    tests = " or ".join(_TESTS[name] for name in _TESTS if rows["test"].eq(name).any())
    kept = ["protocol", "metric", "encoder", "other", "difference", "ci_low", "ci_high", "test"]
    return Exhibit(
        f"{task.name}-significance",
        "Significance",
        "The row's value minus the column's, with p adjusted by Holm's method. Coloured where it "
        f"is below {_LEVEL:g}: ▲ the row is better, ▼ it is worse. By {tests} on the same images.",
        rows.sort_index()[[*kept, "p", "p_holm", "n", "note"]].reset_index(drop=True),
        grids=grids,
    )


def _matrix(found: Results, rows: pd.DataFrame, title: str, smaller: bool) -> Grid:
    by_pair = {
        (str(row["encoder"]), str(row["other"])): (float(row["difference"]), float(row["p_holm"]))
        for row in rows.to_dict("records")
    }
    by_pair |= {(other, one): (-by, p) for (one, other), (by, p) in by_pair.items()}
    present = {name for pair in by_pair for name in pair}
    names = [encoder.name for encoder in found.encoders if encoder.name in present]
    body = []
    for row in names:
        cells = [
            _cell(*by_pair[row, column], smaller) if (row, column) in by_pair else GridCell("")
            for column in names
        ]
        body.append((row, cells))
    return Grid(names, body, title)


def _cell(difference: float, p: float, smaller: bool) -> GridCell:
    signed = f"{difference:+.3f}".replace("-", "−")
    said = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
    if p >= _LEVEL or difference == 0:
        return GridCell(signed, said)
    better = (difference > 0) != smaller
    return GridCell(f"{'▲' if better else '▼'} {signed}", said, _BETTER if better else _WORSE)
