"""From an outcome to rows of the results table: values, intervals, and why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.kinds import KINDS, AnyPredictions
from dermino.evaluate.leakage import Exposure
from dermino.evaluate.metrics import Metric
from dermino.evaluate.pooled import Aggregate, Score
from dermino.evaluate.protocol import Outcome
from dermino.evaluate.task import UNLABELLED, Task


def score(
    outcome: Outcome, task: Task, bootstrap: Bootstrap, exposure: Exposure
) -> list[dict[str, Any]]:
    """Compute every metric with its interval.

    Parameters
    ----------
    outcome:
        The predictions for the task's test rows, judged by the metrics of the task's kind, and
        the scores that the protocol brings itself.
    task:
        Tells what the bootstrap draws: patients, lesions or images.
    bootstrap:
        How many replicates, and the confidence.
    exposure:
        What the encoder saw of the task.

    Returns
    -------
    list of dict
        One row a metric: metric, value, ci_low, ci_high, n, seen_in_pretraining, note.
    """
    rows = []
    if outcome.predictions is not None:
        rows += measure(outcome.predictions, task, bootstrap)
    elif task.kind == "unlabelled":
        rows += [_undefined(name, UNLABELLED) for name in KINDS[task.kind].metrics]
    for name, own in outcome.scores.items():
        rows.append(_own_score(name, own, task, bootstrap))
    shared = {"n": len(task.rows("test")), "seen_in_pretraining": exposure.kind}
    return [{**row, **shared} for row in rows]


def measure(predictions: AnyPredictions, task: Task, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Judge predictions for the test rows by every metric of the task's kind.

    Returns
    -------
    list of dict
        One row a metric: metric, value, ci_low, ci_high, note.
    """
    metrics = KINDS[task.kind].metrics
    replicates = bootstrap.replicate(metrics, predictions, task.clusters()[1])
    return [
        _row(name, metric, predictions, replicates[name], bootstrap)
        for name, metric in metrics.items()
    ]


def _own_score(name: str, own: Score, task: Task, bootstrap: Bootstrap) -> dict[str, Any]:
    if isinstance(own, Aggregate):
        interval = {"ci_low": own.ci_low, "ci_high": own.ci_high}
        return {"metric": name, "value": own.value, **interval, "note": own.note}
    metric = own.metric()
    replicates = bootstrap.replicate({name: metric}, own, task.clusters()[1])
    row = _row(name, metric, own, replicates[name], bootstrap)
    return {**row, "note": row["note"] or own.note}


def _row(
    name: str, metric: Metric[Any], answered: Any, replicates: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Any]:
    value, note = metric.value(answered)
    if note:
        return _undefined(name, note)
    low, high = bootstrap.interval(replicates)
    return {"metric": name, "value": value, "ci_low": low, "ci_high": high, "note": ""}


def _undefined(metric: str, note: str) -> dict[str, Any]:
    return {"metric": metric, **dict.fromkeys(("value", "ci_low", "ci_high"), np.nan), "note": note}
