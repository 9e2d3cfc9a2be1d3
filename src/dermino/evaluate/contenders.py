"""The encoders of a results folder with their kept predictions, ready to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dermino.errors import UserError
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.kinds import KINDS
from dermino.evaluate.metric import Metric, applicable
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.significance.pair import Contender

UNITS_NOT_KEPT = (
    "images are taken for independent, because the predictions do not tell their {unit}: intervals "
    "are too narrow; evaluate again with this version"
)
_VALUE = "value:"
_AGAIN = "Remove the folder's results.csv to evaluate again."


def read_contenders(
    files: Mapping[str, Path],
    task: Mapping[str, Any],
    bootstrap: Bootstrap,
    metrics: Sequence[str] | None = None,
) -> tuple[list[Contender], str]:
    """Read what several encoders answered to one task and protocol.

    Parameters
    ----------
    files:
        Predictions of each encoder, by its name.
    task:
        The task's record in ``evaluation.json``.
    bootstrap:
        How replicates will be drawn.
    metrics:
        Names wanted. Default: the two that the task's reference reports first, else the first two.

    Returns
    -------
    tuple
        The encoders, and what must be said of all comparisons between them; mostly nothing.

    Raises
    ------
    UserError
        If a file is missing, or encoders were judged on different images.
    """
    tables = {encoder: _read(path) for encoder, path in files.items()}
    _check_images(tables, files)
    unit, note = _units(next(iter(tables.values())), str(task.get("bootstrap_unit", "image")))
    contenders = []
    for encoder, table in tables.items():
        answers, classes = _answers(table, task)
        chosen = metrics or _headlines(answers, task)
        kept = {name: answers[name] for name in chosen if name in answers}
        contenders.append(Contender(encoder, kept, unit, classes, bootstrap))
    return contenders, note


def _answers(
    table: pa.Table, task: Mapping[str, Any]
) -> tuple[dict[str, tuple[Metric[Any], Any]], np.ndarray | None]:
    """Return each metric with what it is computed of, and the images' classes."""
    kind = KINDS[task.get("kind") or "classification"]
    answers: dict[str, tuple[Metric[Any], Any]] = {}
    classes = None
    if kind.predictions is not None and "target" in table.column_names:
        predictions = kind.predictions.from_table(table, task["classes"])
        metrics = applicable(kind.metrics, predictions)
        answers = {name: (metric, predictions) for name, metric in metrics.items()}
        one_class = predictions.targets.ndim == 1 and predictions.targets.dtype.kind == "i"
        classes = predictions.targets if one_class else None
    for column in table.column_names:
        if column.startswith(_VALUE):
            values = table[column].to_numpy()
            score = PooledScore.mean(column.removeprefix(_VALUE), values)
            answers[score.title] = (score.metric(), score)
    return answers, classes


def _headlines(answers: Mapping[str, Any], task: Mapping[str, Any]) -> list[str]:
    reported = (task.get("definition") or {}).get("metrics", ())
    return [name for name in reported if name in answers][:2] or list(answers)[:2]


def _units(table: pa.Table, name: str) -> tuple[np.ndarray | None, str]:
    if "cluster" in table.column_names:
        return table["cluster"].to_numpy(), ""
    return None, "" if name == "image" else UNITS_NOT_KEPT.format(unit=name.removesuffix("_id"))


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise UserError(f"'{path}' is missing.", _AGAIN) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"'{path}' cannot be read: {error}.", _AGAIN) from error


def _check_images(tables: Mapping[str, pa.Table], files: Mapping[str, Path]) -> None:
    first, *others = tables
    for encoder in others:
        if not tables[encoder]["image"].equals(tables[first]["image"]):
            raise UserError(
                f"'{files[first]}' and '{files[encoder]}' are about different images.",
                "Evaluate both encoders again in one call.",
            )
