"""``metrics.jsonl`` in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.logger import LOGGERS, Logger
from dermino.pretrain.metrics_log import StepLog


@LOGGERS.register("jsonl")
class JsonLinesLogger(Logger):
    """One JSON object a line; the recipe lies beside it in ``config.yaml``."""

    def __init__(self, config: PretrainConfig, run: Path, done: int) -> None:
        self._file = StepLog(run, done)

    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Append a line."""
        self._file.write({"step": step, **record})
