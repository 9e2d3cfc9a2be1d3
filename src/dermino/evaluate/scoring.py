"""From an outcome to rows of the results table: values, intervals, and why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.leakage import Exposure
from dermino.evaluate.metrics import METRICS
from dermino.evaluate.protocol import Outcome
from dermino.evaluate.task import Task


def score(
    outcome: Outcome, task: Task, bootstrap: Bootstrap, exposure: Exposure
) -> list[dict[str, Any]]:
    """Compute every metric with its interval.

    Parameters
    ----------
    outcome:
        The predictions for the task's test rows.
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
    predictions = outcome.predictions
    _, clusters = task.clusters()
    replicates = bootstrap.replicate(METRICS, predictions, clusters)
    rows = []
    for name, metric in METRICS.items():
        value, note = metric.value(predictions)
        low, high = bootstrap.interval(replicates[name]) if not note else (np.nan, np.nan)
        rows.append(
            {
                "metric": name,
                "value": value,
                "ci_low": low,
                "ci_high": high,
                "n": len(predictions),
                "seen_in_pretraining": exposure.kind,
                "note": note,
            }
        )
    return rows
