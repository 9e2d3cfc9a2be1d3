"""A table as the paper prints it: on the terminal, as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from dermino.ablation.tables import AblationTable
from dermino.files import atomic_path, write_text

NOT_MEASURED = "not measured"
Status = Literal["finished", "failed", "not installed", "not trained"]
_CELLS: Mapping[Status, str] = {
    "failed": "failed",
    "not installed": "absent",
    "not trained": "open",
}


_UNLIMITED = 10_000


@dataclass(frozen=True)
class ColumnGroup:
    """Figures of one protocol.

    Parameters
    ----------
    title:
        As in the paper.
    metrics:
        The paper's names, each with the metric of ``results.csv``.
    protocol:
        The evaluation protocol; None for what dermino cannot measure yet.
    """

    title: str
    metrics: Mapping[str, str]
    protocol: str | None = None

    def column(self, metric: str) -> str:
        """Return the name of a column in the files."""
        return f"{self.title} {metric}"


_CLASSIFICATION = {"AUROC": "macro_auroc", "F1": "macro_f1"}
_SEGMENTATION = {"JAC": "jaccard", "DICE": "dice"}
GROUPS = (
    ColumnGroup("Retrieval", _CLASSIFICATION, "retrieval"),
    ColumnGroup("Classification", _CLASSIFICATION, "linear"),
    ColumnGroup("Segmentation Linear", _SEGMENTATION),
    ColumnGroup("Segmentation UperNet", _SEGMENTATION),
    ColumnGroup("Caption", {"METEOR": "meteor", "CIDEr": "cider"}),
    ColumnGroup("Federated Learning", _CLASSIFICATION),
)


@dataclass(frozen=True)
class RowResult:
    """What came of a row.

    Parameters
    ----------
    status:
        How far it is.
    scores:
        Protocol and metric to the mean over the tasks, a fraction; empty unless finished.
    reason:
        Why it failed or cannot be trained.
    """

    status: Status
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    reason: str = ""


def table_frame(table: AblationTable, results: Mapping[str, RowResult]) -> pd.DataFrame:
    """Arrange the rows as ``table.csv`` has them.

    Parameters
    ----------
    table:
        What was asked.
    results:
        By the rows' names.

    Returns
    -------
    pd.DataFrame
        Columns: the row's name, the paper's figures (percent; text where nothing is measured), a
        column for each mark (bool), ``published``, ``status`` and ``reason``.
    """
    lines = []
    for row in table.rows:
        result = results[row.name]
        line: dict[str, object] = {table.rows_are: row.name}
        for group in GROUPS:
            for metric, ours in group.metrics.items():
                value = result.scores.get((group.protocol or "", ours), float("nan"))
                line[group.column(metric)] = 100 * value if group.protocol else NOT_MEASURED
        line |= {mark: mark in row.marks for mark in table.marks}
        line |= {"published": row.published, "status": result.status, "reason": result.reason}
        lines.append(line)
    return pd.DataFrame(lines)


def write_table(
    out: Path, table: AblationTable, frame: pd.DataFrame, sentences: Sequence[str]
) -> None:
    """Write ``table.csv`` and ``table.md``; the sentences stand below the table."""
    with atomic_path(out / "table.csv") as temporary:
        frame.to_csv(temporary, index=False, na_rep="nan", float_format="%.4f")
    metrics = [(group, metric) for group in GROUPS for metric in group.metrics]
    columns = [table.rows_are, *(group.column(metric) for group, metric in metrics), *table.marks]
    rules = ["---", *("---:" for _ in metrics), *(":---:" for _ in table.marks)]
    lines = [
        [
            _name(line, table),
            *(_cell(line, group, metric, NOT_MEASURED) for group, metric in metrics),
            *_ticks(line, table),
        ]
        for line in _lines(frame)
    ]
    text = [f"# {table.title}", ""]
    text += [f"| {' | '.join(cells)} |" for cells in (columns, rules, *lines)]
    text += [line for sentence in sentences for line in ("", sentence)]
    write_text(out / "table.md", "\n".join(text) + "\n")


def print_table(
    table: AblationTable,
    frame: pd.DataFrame,
    sentences: Sequence[str],
    console: Console | None = None,
) -> None:
    """Print the table; groups that are not measured are left out where there is no room.

    Parameters
    ----------
    table, frame:
        What was asked, and :func:`table_frame` of it.
    sentences:
        What stands below the table.
    console:
        Where to print. Default: standard output.
    """
    console = console or Console(highlight=False)
    shown = _drawn(table, frame, GROUPS)
    unlimited = console.options.update_width(_UNLIMITED)
    if Measurement.get(console, unlimited, shown).maximum > console.width:
        shown = _drawn(table, frame, [group for group in GROUPS if group.protocol])
    console.print(shown)
    for sentence in sentences:
        console.print(sentence, markup=False, soft_wrap=True)


def remarks(
    table: AblationTable, results: Mapping[str, RowResult], tasks: Sequence[str]
) -> list[str]:
    """Return the sentences below the table: what the cells mean, what is missing and why."""
    over = f"means over {len(tasks)} tasks" if len(tasks) > 1 else "one task"
    absent = [group.title for group in GROUPS if not group.protocol]
    sentences = [
        f"Macro-averaged, in percent; {over}: {', '.join(tasks)}. One seed a row; the intervals "
        "of every task are in results/results.csv.",
        f"{', '.join(absent)}: {NOT_MEASURED}, because dermino has no such protocol yet.",
    ]
    if not all(row.published for row in table.rows):
        sentences.append("* not in the paper.")
    by_status: dict[Status, list[str]] = {}
    for name, result in results.items():
        by_status.setdefault(result.status, []).append(name)
    if missing := by_status.get("not installed"):
        sentences.append(f"Absent, because the method is not installed: {', '.join(missing)}.")
    if untrained := by_status.get("not trained"):
        sentences.append(f"Open, because not trained so far: {', '.join(untrained)}.")
    sentences += [f"{name} failed: {results[name].reason}" for name in by_status.get("failed", ())]
    return [*sentences, table.remark] if table.remark else sentences


def _drawn(table: AblationTable, frame: pd.DataFrame, groups: Sequence[ColumnGroup]) -> Table:
    drawn = Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    drawn.add_column(table.rows_are, no_wrap=True, vertical="bottom")
    for group in groups:
        heads = [group.title.replace(" ", "\n"), *[""] * (len(group.metrics) - 1)]
        for head, metric in zip(heads, group.metrics, strict=True):
            drawn.add_column(
                f"{head}\n{metric}".strip(),
                justify="right",
                overflow="fold",
                min_width=6,
                vertical="bottom",
            )
    for mark in table.marks:
        head = mark.replace(" ", "\n")
        drawn.add_column(head, justify="center", overflow="fold", min_width=5, vertical="bottom")
    for line in _lines(frame):
        drawn.add_row(
            _name(line, table),
            *(_cell(line, group, metric, "–") for group in groups for metric in group.metrics),
            *_ticks(line, table),
        )
    return drawn


def _lines(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in line.items()} for line in frame.to_dict("records")]


def _name(line: Mapping[str, Any], table: AblationTable) -> str:
    return f"{line[table.rows_are]}{'' if line['published'] else '*'}"


def _cell(line: Mapping[str, Any], group: ColumnGroup, metric: str, unmeasured: str) -> str:
    if not group.protocol:
        return unmeasured
    if line["status"] != "finished":
        return _CELLS[line["status"]]
    value = line[group.column(metric)]
    return "undef." if value != value else f"{value:.2f}"


def _ticks(line: Mapping[str, Any], table: AblationTable) -> list[str]:
    return ["✓" if line[mark] else "" for mark in table.marks]
