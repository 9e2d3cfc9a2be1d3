"""A table as the paper prints it: on the terminal, as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement as Width
from rich.table import Table

from dermino.ablation.evaluation import Figure, Measurement
from dermino.ablation.tables import AblationTable, Row
from dermino.files import atomic_path, write_text

Status = Literal["finished", "failed", "not installed", "not trained"]
# What stands in for a figure that a row does not have; a failed one may have others.
_CELLS: Mapping[Status, str] = {
    "failed": "failed",
    "not installed": "absent",
    "not trained": "open",
}
_UNLIMITED = 10_000
_METRIC_WIDTH, _MARK_WIDTH = 6, 5


@dataclass(frozen=True)
class RowResult:
    """What came of a row.

    Parameters
    ----------
    status:
        How far it is; ``failed`` if its training or one of its measurements failed.
    figures:
        By protocol and metric, those that could be had.
    reason:
        What failed, and why.
    """

    status: Status
    figures: Mapping[tuple[str, str], Figure] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class FilledTable:
    """A table and what came of it so far.

    Parameters
    ----------
    table:
        What was asked.
    measurements:
        One for each group of columns.
    results:
        By the rows' names.
    """

    table: AblationTable
    measurements: Sequence[Measurement]
    results: Mapping[str, RowResult]


def table_frame(filled: FilledTable) -> pd.DataFrame:
    """Arrange the rows as ``table.csv`` has them.

    Returns
    -------
    pd.DataFrame
        Columns: the row's name, the paper's figures (in its unit, NaN where there is none; text
        where nothing is measured), a column for each mark (bool), ``published``, ``status`` and
        ``reason``.
    """
    table = filled.table
    lines = []
    for row in table.rows:
        result = filled.results[row.name]
        line: dict[str, object] = {table.rows_are: row.name}
        for measurement in filled.measurements:
            group = measurement.group
            for metric, ours in group.metrics.items():
                figure = result.figures.get((group.protocol, ours), Figure(float("nan")))
                value = group.printed(figure.value)
                line[group.column(metric)] = value if measurement.tasks else measurement.cell
        line |= {mark: mark in row.marks for mark in table.marks}
        line |= {"published": row.published, "status": result.status, "reason": result.reason}
        lines.append(line)
    return pd.DataFrame(lines)


def write_table(out: Path, filled: FilledTable, sentences: Sequence[str]) -> None:
    """Write ``table.csv`` and ``table.md``; the sentences stand below the table."""
    with atomic_path(out / "table.csv") as temporary:
        table_frame(filled).to_csv(temporary, index=False, na_rep="nan", float_format="%.4f")
    table, groups = filled.table, [measurement.group for measurement in filled.measurements]
    metrics = [group.column(metric) for group in groups for metric in group.metrics]
    columns = [table.rows_are, *metrics, *table.marks]
    rules = ["---", *("---:" for _ in metrics), *(":---:" for _ in table.marks)]
    lines = [
        [
            _name(row),
            *(
                cell
                for measurement in filled.measurements
                for cell in _cells(filled.results[row.name], measurement, measurement.cell)
            ),
            *_ticks(row, table.marks),
        ]
        for row in table.rows
    ]
    text = [f"# {table.title}", ""]
    text += [f"| {' | '.join(cells)} |" for cells in (columns, rules, *lines)]
    text += [line for sentence in sentences for line in ("", sentence)]
    write_text(out / "table.md", "\n".join(text) + "\n")


def print_table(
    filled: FilledTable, sentences: Sequence[str], console: Console | None = None
) -> None:
    """Print the table, in parts below one another where it is too wide for the terminal.

    Groups that are not measured are then left out.

    Parameters
    ----------
    filled:
        The table.
    sentences:
        What stands below it.
    console:
        Where to print. Default: standard output.
    """
    console = console or Console(highlight=False)
    whole = _drawn(filled, filled.measurements)
    unlimited = console.options.update_width(_UNLIMITED)
    if Width.get(console, unlimited, whole).maximum <= console.width:
        console.print(whole)
    else:
        for number, part in enumerate(_parts(filled, console.width)):
            console.print(_drawn(filled, part, with_marks=number == 0))
    for sentence in sentences:
        console.print(sentence, markup=False, soft_wrap=True)


def _parts(filled: FilledTable, width: int) -> list[list[Measurement]]:
    """Divide what is measured so that no figure is broken; only headings may be.

    The marks stand beside the first part.
    """
    room = width - max(len(_name(row)) for row in filled.table.rows) - 2
    parts: list[list[Measurement]] = [[]]
    left = room - len(filled.table.marks) * (_MARK_WIDTH + 1)
    for measurement in filled.measurements:
        if not measurement.tasks:
            continue
        needed = len(measurement.group.metrics) * (_METRIC_WIDTH + 1)
        if needed > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append(measurement)
        left -= needed
    return parts


def _drawn(
    filled: FilledTable, measurements: Sequence[Measurement], with_marks: bool = True
) -> Table:
    table = filled.table
    marks = table.marks if with_marks else ()
    drawn = Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    drawn.add_column(table.rows_are, no_wrap=True, vertical="bottom")
    for group in (measurement.group for measurement in measurements):
        heads = [group.title.replace(" ", "\n"), *[""] * (len(group.metrics) - 1)]
        for head, metric in zip(heads, group.metrics, strict=True):
            drawn.add_column(
                f"{head}\n{metric}".strip(),
                justify="right",
                overflow="fold",
                min_width=_METRIC_WIDTH,
                vertical="bottom",
            )
    for mark in marks:
        drawn.add_column(
            mark.replace(" ", "\n"),
            justify="center",
            overflow="fold",
            min_width=_MARK_WIDTH,
            vertical="bottom",
        )
    for row in table.rows:
        result = filled.results[row.name]
        cells = [cell for own in measurements for cell in _cells(result, own, "–")]
        drawn.add_row(_name(row), *cells, *_ticks(row, marks))
    return drawn


def _name(row: Row) -> str:
    return f"{row.name}{'' if row.published else '*'}"


def _cells(result: RowResult, measurement: Measurement, unmeasured: str) -> list[str]:
    group = measurement.group
    if not measurement.tasks:
        return [unmeasured] * len(group.metrics)
    figures = [result.figures.get((group.protocol, ours)) for ours in group.metrics.values()]
    return [group.text(own.value) if own else _CELLS[result.status] for own in figures]


def _ticks(row: Row, marks: Sequence[str]) -> list[str]:
    return ["✓" if mark in row.marks else "" for mark in marks]
