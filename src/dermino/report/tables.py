"""The tables of the page: results, training images, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dermino.evaluate.metric_names import metric_title, smaller_is_better
from dermino.report.evaluation import EncoderRecord, ProtocolRecord, Seen, TaskRecord
from dermino.report.exhibit import Panel
from dermino.report.figures import Interval, intervals
from dermino.report.seen import seen_title
from dermino.report.style import Mark


@dataclass(frozen=True)
class ResultCell:
    """A value with its interval as shown; ``note`` says why a value is undefined.

    ``overlaps`` tells that its interval overlaps with that of the column's best value.
    """

    value: str
    interval: str
    best: bool = False
    overlaps: bool = False
    note: str = ""


@dataclass(frozen=True)
class ResultTable:
    """Encoders x (protocol, metric) of one task.

    ``groups`` are the protocols with their number of columns; ``unsettled`` counts the columns
    whose best value has an interval that overlaps with another.
    """

    groups: list[tuple[str, int]]
    metrics: list[str]
    rows: list[tuple[str, str, list[ResultCell]]]
    unsettled: int
    n: str


@dataclass(frozen=True)
class _Column:
    """One metric of one protocol: interval and note of each encoder."""

    protocol: str
    metric: str
    intervals: Mapping[str, Interval]
    notes: Mapping[str, str]

    @property
    def defined(self) -> list[Interval]:
        return [found for found in self.intervals.values() if not math.isnan(found.value)]

    @property
    def best(self) -> Interval | None:
        """The highest value, or the lowest of errors, where there are several to choose from."""
        if len(self.defined) < 2:
            return None
        choose = min if smaller_is_better(self.metric) else max
        return choose(self.defined, key=lambda found: found.value)

    @property
    def overlapping(self) -> set[str]:
        """Encoders whose interval reaches into that of the best value."""
        best = self.best
        if best is None:
            return set()
        overlapping = {
            found.name
            for found in self.defined
            if found.high >= best.low and found.low <= best.high
        }
        return overlapping - {best.name}


def result_table(
    rows: pd.DataFrame,
    encoders: Sequence[EncoderRecord],
    protocols: Sequence[ProtocolRecord],
    metrics: Sequence[str],
) -> ResultTable:
    """Arrange one task's rows of the results table; columns are ``metrics`` by protocol.

    Parameters
    ----------
    rows:
        Rows of ``results.csv`` over all test images of the task.
    encoders, protocols, metrics:
        In the order to be shown; what has no row is left out.
    """
    columns = _columns(rows, encoders, protocols, metrics)
    seen = dict(zip(rows["encoder"], rows["seen_in_pretraining"], strict=True))
    body = []
    for encoder in encoders:
        if encoder.name in seen:
            cells = [_cell(column, encoder.name) for column in columns]
            flag = seen[encoder.name]
            body.append((encoder.name, seen_title(flag), cells))
    titles = {protocol.name: protocol.called for protocol in protocols}
    groups: dict[str, int] = {}
    for column in columns:
        groups[titles[column.protocol]] = groups.get(titles[column.protocol], 0) + 1
    sizes = sorted({int(n) for n in rows.loc[rows["metric"].isin(metrics), "n"].dropna()})
    return ResultTable(
        list(groups.items()),
        [metric_title(column.metric) for column in columns],
        body,
        sum(bool(column.overlapping) for column in columns),
        " to ".join(f"{n:,}" for n in dict.fromkeys((*sizes[:1], *sizes[-1:]))),
    )


def interval_panels(
    rows: pd.DataFrame,
    encoders: Sequence[EncoderRecord],
    protocols: Sequence[ProtocolRecord],
    looks: Mapping[str, Mark],
    task: str,
    metrics: Sequence[str],
) -> list[Panel]:
    """Draw one panel for each protocol and metric; a metric has the same axis everywhere.

    Parameters
    ----------
    rows, encoders, protocols, metrics:
        See :func:`result_table`.
    looks:
        The look of each encoder.
    task:
        The task's name, which keeps the panels apart from those of others.
    """
    titles = {protocol.name: protocol.called for protocol in protocols}
    columns = _columns(rows, encoders, protocols, metrics)
    limits = {
        metric: _limits([column for column in columns if column.metric == metric])
        for metric in dict.fromkeys(column.metric for column in columns)
    }
    panels = []
    for index, column in enumerate(columns):
        found = column.defined
        if not found:
            continue
        title = f"{titles[column.protocol]}: {metric_title(column.metric)}"
        said = "; ".join(f"{row.name} {row.value:.3f}" for row in found)
        figure = intervals(
            found, limits[column.metric], looks, f"{title}. {said}.", f"{task}-interval-{index}"
        )
        panels.append(Panel(title, figure))
    return panels


def _limits(columns: Sequence[_Column]) -> tuple[float, float]:
    found = [interval for column in columns for interval in column.defined]
    ends = [end for i in found for end in (i.value, i.low, i.high) if not math.isnan(end)]
    if not ends:
        return 0.0, 1.0
    margin = max(0.02, 0.06 * (max(ends) - min(ends)))
    return min(ends) - margin, max(ends) + margin


def class_counts(task: TaskRecord) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Return the splits that hold images, and rows of class and images in each of them.

    The class with most test images comes first.
    """
    counts = {"train": task.counts_train, "val": task.counts_val, "test": task.counts_test}
    counts = {split: numbers for split, numbers in counts.items() if sum(numbers.values())}
    names = dict.fromkeys(name for numbers in counts.values() for name in numbers)
    rows = [(name, [numbers.get(name, 0) for numbers in counts.values()]) for name in names]
    return list(counts), sorted(rows, key=lambda row: (row[1][::-1], row[0]), reverse=True)


def seen_table(
    seen: Mapping[str, Mapping[str, Seen] | None],
) -> tuple[list[str], list[tuple[str, list[Seen | None], bool]]]:
    """Arrange what the encoders saw: datasets, and for each encoder a cell for each of them.

    Returns
    -------
    tuple
        The datasets, and rows of encoder, cells (None: not one image) and whether it is known.
    """
    datasets = sorted({name for counts in seen.values() for name in counts or ()})
    rows = [
        (encoder, [(counts or {}).get(name) for name in datasets], counts is not None)
        for encoder, counts in seen.items()
    ]
    return datasets, rows


def _columns(
    rows: pd.DataFrame,
    encoders: Sequence[EncoderRecord],
    protocols: Sequence[ProtocolRecord],
    metrics: Sequence[str],
) -> list[_Column]:
    columns = []
    for protocol in protocols:
        for metric in metrics:
            found = rows[(rows["protocol"] == protocol.name) & (rows["metric"] == metric)]
            by_name = Interval.of(found)
            notes = dict(zip(found["encoder"], found["note"], strict=True))
            ordered = {item.name: by_name[item.name] for item in encoders if item.name in by_name}
            if ordered:
                columns.append(_Column(protocol.name, metric, ordered, notes))
    return columns


def _cell(column: _Column, encoder: str) -> ResultCell:
    found = column.intervals.get(encoder)
    if found is None:
        return ResultCell("–", "not evaluated")
    if math.isnan(found.value):
        return ResultCell("–", "undefined", note=column.notes[encoder])
    known = not (math.isnan(found.low) or math.isnan(found.high))
    return ResultCell(
        f"{found.value:.3f}",
        f"{found.low:.3f}–{found.high:.3f}" if known else "no interval",
        found == column.best,
        encoder in column.overlapping,
    )
