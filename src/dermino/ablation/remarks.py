"""The sentences below a table: how its figures are to be read, what is missing, and why."""

from __future__ import annotations

from collections.abc import Sequence

from dermino.ablation.evaluation import NOT_MEASURED, Measurement
from dermino.ablation.layout import FilledTable, Status


def remarks(filled: FilledTable) -> list[str]:
    """Return the sentences below a table."""
    table, results = filled.table, filled.results
    sentences = [
        *describe_measurements(filled.measurements),
        "One seed a row; the intervals of every task are in results/results.csv.",
    ]
    if not all(row.published for row in table.rows):
        sentences.append("* not in the paper.")
    sentences += _undefined(filled)
    by_status: dict[Status, list[str]] = {}
    for name, result in results.items():
        by_status.setdefault(result.status, []).append(name)
    if missing := by_status.get("not installed"):
        sentences.append(f"Absent, because the method is not installed: {', '.join(missing)}.")
    if untrained := by_status.get("not trained"):
        sentences.append(f"Open, because not trained so far: {', '.join(untrained)}.")
    sentences += [f"{name} failed: {results[name].reason}" for name in by_status.get("failed", ())]
    return [*sentences, table.remark] if table.remark else sentences


def describe_measurements(measurements: Sequence[Measurement]) -> list[str]:
    """Say of each group of columns what it is measured on and how, or why it is not measured."""
    alike: dict[str, list[str]] = {}
    for measurement in measurements:
        group, tasks = measurement.group, measurement.tasks
        over = f"means over {len(tasks)} tasks" if len(tasks) > 1 else "one task"
        said = f"{group.meaning}; {over}: {', '.join(tasks)}."
        said = said if tasks else f"{NOT_MEASURED}. {measurement.reason}"
        alike.setdefault(said, []).append(group.title)
    return [f"{', '.join(titles)}: {said}" for said, titles in alike.items()]


def _undefined(filled: FilledTable) -> list[str]:
    """Explain the cells that are undefined, each reason once."""
    rows: dict[tuple[str, str], list[str]] = {}
    for group in (measurement.group for measurement in filled.measurements):
        for metric, ours in group.metrics.items():
            for name, result in filled.results.items():
                figure = result.figures.get((group.protocol, ours))
                if figure is not None and figure.value != figure.value:
                    rows.setdefault((group.column(metric), figure.note), []).append(name)
    return [
        f"{column} is undefined for {', '.join(names)}: {note}."
        for (column, note), names in rows.items()
    ]
