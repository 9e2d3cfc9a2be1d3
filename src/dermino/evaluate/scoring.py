"""From an outcome to rows of the results table: values, intervals, and why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.leakage import Exposure
from dermino.evaluate.metrics import METRICS, Predictions
from dermino.evaluate.protocol import Outcome
from dermino.evaluate.task import UNLABELLED, Task


def score(
    outcome: Outcome, task: Task, bootstrap: Bootstrap, exposure: Exposure
) -> list[dict[str, Any]]:
    """Compute every metric with its interval.

    Parameters
    ----------
    outcome:
        The predictions for the task's test rows; without any, no metric has a value.
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
    if outcome.predictions is None:
        measured = [_undefined(name, UNLABELLED) for name in METRICS]
    else:
        measured = _measure(outcome.predictions, task, bootstrap)
    shared = {"n": len(task.rows("test")), "seen_in_pretraining": exposure.kind}
    return [{**row, **shared} for row in measured]


def _measure(predictions: Predictions, task: Task, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    _, clusters = task.clusters()
    replicates = bootstrap.replicate(METRICS, predictions, clusters)
    rows = []
    for name, metric in METRICS.items():
        value, note = metric.value(predictions)
        if note:
            rows.append(_undefined(name, note))
            continue
        low, high = bootstrap.interval(replicates[name])
        rows.append({"metric": name, "value": value, "ci_low": low, "ci_high": high, "note": ""})
    return rows


def _undefined(metric: str, note: str) -> dict[str, Any]:
    return {"metric": metric, **dict.fromkeys(("value", "ci_low", "ci_high"), np.nan), "note": note}
