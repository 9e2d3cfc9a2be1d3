"""TensorBoard event files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.logger import LOGGERS, Logger

FOLDER = "tensorboard"


@LOGGERS.register("tensorboard")
class TensorBoardLogger(Logger):
    """Scalars under the names of ``metrics.jsonl``, and the recipe as a text."""

    package = "tensorboard"

    def __init__(self, config: PretrainConfig, run: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps that a killed process wrote after its last checkpoint are written again.
        self._writer = SummaryWriter(str(run / FOLDER), purge_step=done + 1 if done else None)
        if not done:
            recipe = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
            indented = "".join(f"    {line}\n" for line in recipe.splitlines())
            self._writer.add_text("config", indented, 0)

    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Write one scalar a figure."""
        for name, value in record.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()
