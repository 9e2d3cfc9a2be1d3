"""The results on the terminal."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from dermino.evaluate.metric_names import metric_title
from dermino.evaluate.results import EVERYBODY
from dermino.evaluate.task import UNLABELLED

# A terminal has room for two: the first of these that a protocol has, those of the paper if any.
_HEADLINES = (
    "quadratic_weighted_kappa",
    "dice",
    "jaccard",
    "bleu_1",
    "cider",
    "macro_auroc",
    "macro_f1",
    "mean_absolute_error",
    "r2",
)
_SHOWN = 2
_SHOWN_TESTS = ("permutation", "bootstrap", "paper-t-test")


def print_results(table: pd.DataFrame, console: Console | None = None) -> None:
    """Print a small table for each task and protocol, one line an encoder; 80 columns are enough.

    Parameters
    ----------
    table:
        Rows of ``results.csv``.
    console:
        Where to print. Default: standard output.
    """
    console = console or Console(highlight=False)
    table = table[table["subgroup"] == EVERYBODY]
    for (task, protocol), rows in table.groupby(["task", "protocol"], sort=False):
        title = f"{task}, {protocol}, {rows['n'].iloc[0]} test images"
        if set(rows["note"]) == {UNLABELLED}:
            console.print(f"{title}: {UNLABELLED}.", markup=False, soft_wrap=True)
            continue
        shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        shown.add_column("encoder", overflow="fold")
        headlines = _headlines(rows["metric"].unique().tolist())
        for name in headlines:
            shown.add_column(metric_title(name), justify="right", no_wrap=True)
        shown.add_column("images seen", no_wrap=True)
        for encoder, own in rows.groupby("encoder", sort=False):
            by_metric = own.set_index("metric")
            intervals = [_interval(by_metric.loc[name]) for name in headlines]
            shown.add_row(str(encoder), *intervals, str(own["seen_in_pretraining"].iloc[0]))
        console.print(shown)
        for row in rows[rows["value"].isna()].drop_duplicates("metric").itertuples():
            console.print(f"{row.metric} is undefined: {row.note}.", markup=False, soft_wrap=True)


def print_comparisons(table: pd.DataFrame, console: Console | None = None) -> None:
    """Print a small table for each task, protocol and metric, one line a pair of encoders.

    Parameters
    ----------
    table:
        Rows of ``comparisons.csv``. Of several tests the permutation test is shown.
    console:
        Where to print. Default: standard output.
    """
    console = console or Console(highlight=False)
    tests = set(table["test"])
    test = next((name for name in _SHOWN_TESTS if name in tests), "")
    for (task, protocol, metric), rows in table.groupby(["task", "protocol", "metric"], sort=False):
        own = rows[rows["test"].isin({test, ""})]
        title = f"{task}, {protocol}, {metric_title(str(metric))}"
        shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        shown.add_column("encoder - other", overflow="fold")
        shown.add_column("difference", justify="right", no_wrap=True)
        shown.add_column(f"p ({test})", justify="right", no_wrap=True)
        shown.add_column(f"Holm of {own['family'].max()}", justify="right", no_wrap=True)
        for row in own.to_dict("records"):
            interval = _interval({**row, "value": row["difference"]}, sign="+")
            shown.add_row(
                f"{row['encoder']} - {row['other']}", interval, _p(row["p"]), _p(row["p_holm"])
            )
        console.print(shown)
    for note in dict.fromkeys(note for note in table["note"] if note):
        console.print(f"Note: {note}", markup=False, soft_wrap=True)


def _headlines(metrics: list[str]) -> list[str]:
    known = [name for name in _HEADLINES if name in metrics]
    return [*known, *(name for name in metrics if name not in known)][:_SHOWN]


def _interval(row: Any, sign: str = "") -> str:
    value, low, high = (float(row[name]) for name in ("value", "ci_low", "ci_high"))
    if math.isnan(value):
        return "undefined"
    form = f"{{:{sign}.3f}}".format
    separator = " to " if sign else "-"
    interval = "" if math.isnan(low) else f" ({form(low)}{separator}{form(high)})"
    return form(value) + interval


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
