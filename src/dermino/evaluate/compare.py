"""Compare encoders that have been evaluated: which differences the test images can tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from dermino.errors import UserError, unknown
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.contenders import read_contenders
from dermino.evaluate.kinds import KINDS
from dermino.evaluate.metric_names import smaller_is_better
from dermino.evaluate.predictions import Cell
from dermino.evaluate.results import EVERYBODY, ResultsFolder
from dermino.evaluate.significance.friedman import compare_ranks
from dermino.evaluate.significance.multiple import holm
from dermino.evaluate.significance.pair import Contender, compare_pair
from dermino.files import atomic_path, write_json
from dermino.progress import console, track

COLUMNS = [
    "task",
    "protocol",
    "metric",
    "encoder",
    "other",
    "difference",
    "ci_low",
    "ci_high",
    "test",
    "p",
    "p_holm",
    "family",
    "n",
    "note",
]
RANK_COLUMNS = [
    "protocol",
    "metric",
    "encoder",
    "mean_rank",
    "tasks",
    "friedman_p",
    "critical_difference",
    "note",
]
FAMILIES: Mapping[str, tuple[str, list[str]]] = {
    "task": (
        "all pairs of encoders on one task by one protocol, for one metric and test",
        ["task", "protocol", "metric", "test"],
    ),
    "all": (
        "all pairs of encoders on all tasks by all protocols, for one metric and test",
        ["metric", "test"],
    ),
}
_FEW_TASKS = 5


def compare(
    results: str | Path,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    family: str = "task",
    replicates: int = 1000,
    permutations: int = 2000,
    interval: str = "percentile",
    stratified: bool = False,
    statistics: str = "standard",
    seed: int = 0,
) -> pd.DataFrame:
    """Test the differences between the encoders of a results folder, from kept predictions.

    Parameters
    ----------
    results:
        The folder; ``comparisons.csv``, ``comparisons.json`` and ``ranks.csv`` are written to it.
    baseline:
        An encoder with which all others are compared. Default: every pair is.
    metrics:
        Names of metrics. Default: the first two that the task's reference reports.
    tasks, protocols:
        Names of those wanted. Default: all.
    family:
        Over which tests Holm's method keeps the chance of any false finding: ``task`` or ``all``,
        see :data:`FAMILIES`.
    replicates, interval, stratified, statistics, seed:
        As for :meth:`dermino.evaluate.bootstrap.Bootstrap.configured`.
    permutations:
        Of the permutation test; 0 leaves it out.

    Returns
    -------
    pd.DataFrame
        The rows of ``comparisons.csv``.

    Raises
    ------
    UserError
        If there are no results, a name is unknown, or nothing can be compared.
    """
    if family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    if permutations < 0:
        raise UserError(f"--permutations must not be negative, but it is {permutations}.")
    bootstrap = Bootstrap.configured(replicates, interval, stratified, statistics, seed)
    if not (Path(results) / "results.csv").is_file():
        raise UserError(f"There are no results in '{results}'.", "Make some with dermino evaluate.")
    folder = ResultsFolder(results)
    table = folder.table[folder.table["subgroup"] == EVERYBODY]
    for column, names in (("task", tasks), ("protocol", protocols), ("metric", metrics)):
        table = _only(table, column, names, keep=column != "metric")
    if baseline is not None:
        _only(table, "encoder", [baseline])

    rows: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    cells = list(table.groupby(["task", "protocol"], sort=False))
    for (task, protocol), own in track(cells, "Comparing encoders"):
        encoders = own["encoder"].unique().tolist()
        record = _record(folder, str(task))
        if record.get("kind") == "unlabelled" or record.get("classes") == []:
            continue
        files = {
            name: folder.predictions.path(Cell(name, str(task), str(protocol), ""))
            for name in encoders
        }
        contenders, note = read_contenders(files, record, bootstrap, metrics)
        cell = {"task": task, "protocol": protocol}
        values += [{**cell, **value} for value in _values(contenders)]
        for first, second in _pairs(contenders, baseline):
            for row in compare_pair(first, second, permutations):
                rows.append({**cell, **row, "note": "; ".join(filter(None, (row["note"], note)))})
    if not rows:
        raise UserError(
            f"No two encoders in '{results}' answered the same task by the same protocol.",
            "Evaluate another one with dermino evaluate.",
        )
    comparisons = _adjusted(pd.DataFrame(rows), FAMILIES[family][1])
    ranks = _ranks(pd.DataFrame(values))
    _write(comparisons, folder.folder / "comparisons.csv")
    _write(ranks, folder.folder / "ranks.csv")
    write_json(
        folder.folder / "comparisons.json",
        {
            "baseline": baseline,
            "family": FAMILIES[family][0],
            "adjustment": "holm",
            "interval": bootstrap.method,
            "confidence": bootstrap.confidence,
            "stratified": stratified,
            "replicates": replicates,
            "permutations": permutations,
            "seed": seed,
        },
    )
    console.print(f"Comparisons: {folder.folder / 'comparisons.csv'}", markup=False, soft_wrap=True)
    return comparisons


def _pairs(
    contenders: Sequence[Contender], baseline: str | None
) -> Iterator[tuple[Contender, Contender]]:
    if baseline is None:
        yield from combinations(contenders, 2)
        return
    for reference in contenders:
        if reference.encoder == baseline:
            yield from ((one, reference) for one in contenders if one is not reference)


def _values(contenders: Sequence[Contender]) -> Iterator[dict[str, Any]]:
    """List each encoder's values, the better the higher."""
    for contender in contenders:
        for name, (value, _) in contender.values.items():
            signed = -value if smaller_is_better(name) else value
            yield {"metric": name, "encoder": contender.encoder, "value": signed}


def _adjusted(rows: pd.DataFrame, family: list[str]) -> pd.DataFrame:
    """Add Holm-adjusted p values and the number of tests in each family."""
    groups = rows.groupby(family, sort=False)["p"]
    rows["p_holm"] = groups.transform(lambda p: holm(p.to_numpy()))
    rows["family"] = groups.transform("count").astype(int)
    return rows.reindex(columns=COLUMNS)


def _ranks(values: pd.DataFrame) -> pd.DataFrame:
    """Rank the encoders over the tasks that all of them have answered."""
    rows: list[dict[str, Any]] = []
    for (protocol, metric), own in values.groupby(["protocol", "metric"], sort=False):
        order = own["encoder"].unique()
        grid = own.pivot_table(index="task", columns="encoder", values="value", dropna=False)
        complete = grid[order].dropna().to_numpy()
        if not len(complete) or len(order) < 2:
            continue
        found = compare_ranks(complete)
        note = f"fewer than {_FEW_TASKS} tasks: tells little" if len(complete) < _FEW_TASKS else ""
        for encoder, rank in zip(order, found.mean_ranks, strict=True):
            rows.append(
                {
                    "protocol": protocol,
                    "metric": metric,
                    "encoder": encoder,
                    "mean_rank": rank,
                    "tasks": len(complete),
                    "friedman_p": found.p,
                    "critical_difference": found.critical_difference,
                    "note": note,
                }
            )
    return pd.DataFrame(rows, columns=RANK_COLUMNS)


def _only(
    table: pd.DataFrame, column: str, names: Sequence[str] | None, keep: bool = True
) -> pd.DataFrame:
    """Return the rows with one of the names, each of which must occur."""
    known = table[column].unique().tolist()
    if column == "metric":
        known += [name for kind in KINDS.values() for name in kind.metrics]
    for name in names or ():
        if name not in known:
            raise unknown(f"{column} in the results", name, known)
    return table[table[column].isin(names)] if names and keep else table


def _record(folder: ResultsFolder, task: str) -> Mapping[str, Any]:
    for record in folder.description.get("tasks", ()):
        if record["name"] == task:
            return dict(record)
    raise UserError(
        f"'{folder.folder / 'evaluation.json'}' does not describe the task '{task}'.",
        "Evaluate again.",
    )


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, na_rep="nan")
