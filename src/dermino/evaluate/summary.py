"""The results on the terminal."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from dermino.evaluate.metrics import METRICS
from dermino.evaluate.task import UNLABELLED

# The two of the paper; a terminal has no room for more.
_HEADLINES = ("macro_auroc", "macro_f1")


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
    for (task, protocol), rows in table.groupby(["task", "protocol"], sort=False):
        title = f"{task}, {protocol}, {rows['n'].iloc[0]} test images"
        if set(rows["note"]) == {UNLABELLED}:
            console.print(f"{title}: {UNLABELLED}.", markup=False, soft_wrap=True)
            continue
        shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        shown.add_column("encoder", overflow="fold")
        for name in _HEADLINES:
            shown.add_column(METRICS[name].title, justify="right", no_wrap=True)
        shown.add_column("images seen", no_wrap=True)
        for encoder, own in rows.groupby("encoder", sort=False):
            by_metric = own.set_index("metric")
            intervals = [_interval(by_metric.loc[name]) for name in _HEADLINES]
            shown.add_row(str(encoder), *intervals, str(own["seen_in_pretraining"].iloc[0]))
        console.print(shown)
        for row in rows[rows["value"].isna()].drop_duplicates("metric").itertuples():
            console.print(f"{row.metric} is undefined: {row.note}.", markup=False, soft_wrap=True)


def _interval(row: Any) -> str:
    value, low, high = (float(row[name]) for name in ("value", "ci_low", "ci_high"))
    return "undefined" if math.isnan(value) else f"{value:.3f} ({low:.3f}-{high:.3f})"
