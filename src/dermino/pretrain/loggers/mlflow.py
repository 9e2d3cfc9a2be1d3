"""MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dermino.config import flat
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.logger import LOGGERS, Logger, keep_tracking_id, tracking_id

_EXPERIMENT = "dermino"
# In every record, also in one whose losses were no numbers.
_ALWAYS_SENT = "learning_rate"


@LOGGERS.register("mlflow")
class MlflowLogger(Logger):
    """A run of the experiment that ``MLFLOW_EXPERIMENT_NAME`` names, else of ``dermino``.

    The server is that of ``MLFLOW_TRACKING_URI``. MLflow keeps every value it is sent, so a
    resumed run leaves out the steps that the server has. One that was killed before its first
    checkpoint begins anew, perhaps with another recipe: it gets a new run, the old is marked so.
    """

    package = "mlflow"
    extra = "tracking"

    def __init__(self, config: PretrainConfig, run: Path, done: int) -> None:
        import mlflow

        self._mlflow = mlflow
        self._last = 0
        known = tracking_id(run, "mlflow")
        if known is not None and done:
            mlflow.start_run(run_id=known)
            sent = mlflow.MlflowClient().get_metric_history(known, _ALWAYS_SENT)
            self._last = max((metric.step for metric in sent), default=0)
            return
        if known is not None:
            with suppress(Exception):  # It may have been deleted, or be another server's.
                mlflow.MlflowClient().set_terminated(known, status="KILLED")
        if not os.environ.get("MLFLOW_EXPERIMENT_NAME"):
            mlflow.set_experiment(_EXPERIMENT)
        started = mlflow.start_run(run_name=run.resolve().name)
        keep_tracking_id(run, "mlflow", started.info.run_id)
        mlflow.log_params(flat(config.model_dump(mode="json")))

    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Send the figures of a step, unless the server has them."""
        if step > self._last:
            self._mlflow.log_metrics(dict(record), step=step)

    def close(self, finished: bool) -> None:
        """End the run."""
        self._mlflow.end_run(status="FINISHED" if finished else "KILLED")
