"""TensorBoard event files in the run folder."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.logger import LOGGERS, Logger

FOLDER = "tensorboard"


@LOGGERS.register("tensorboard")
class TensorBoardLogger(Logger):
    """Scalars under the names of ``metrics.jsonl``, and the recipe as a text.

    Written here and now: the thread of PyTorch's ``SummaryWriter`` prints a traceback of its own
    when the disk is full.
    """

    package = "tensorboard"

    def __init__(self, config: PretrainConfig, run: Path, done: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import scalar, text

        self._event, self._scalar = Event, scalar
        folder = run / FOLDER
        folder.mkdir(exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns():019d}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115 - until close.
        # Steps that a killed process wrote after its last checkpoint are written again.
        step = done + 1 if done else 0
        self._write(step, file_version="brain.Event:2")
        self._write(step, session_log=SessionLog(status=SessionLog.START))
        if not done:
            recipe = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
            indented = "".join(f"    {line}\n" for line in recipe.splitlines())
            self._write(0, summary=text("config", indented))
        self._writer.flush()

    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Write one scalar a figure."""
        for name, value in record.items():
            self._write(step, summary=self._scalar(name, value))
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        event = self._event(step=step, wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())
