"""Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.logger import LOGGERS, Logger, keep_tracking_id, tracking_id

_PROJECT = "dermino"


@LOGGERS.register("wandb")
class WandbLogger(Logger):
    """A run of the project that ``WANDB_PROJECT`` names, else of ``dermino``.

    Code, console output, command line, host and the list of installed packages are not sent. A
    resumed run goes on under its identity; W&B leaves out steps that it has, which resuming repeats
    exactly. One that was killed before its first checkpoint begins anew under it.
    """

    package = "wandb"
    extra = "tracking"

    def __init__(self, config: PretrainConfig, run: Path, done: int) -> None:
        # The command line holds paths of manifests. There is no argument for it in old versions.
        for prefix in ("WANDB_X_", "WANDB__"):
            os.environ.setdefault(f"{prefix}DISABLE_META", "true")
            os.environ.setdefault(f"{prefix}SAVE_REQUIREMENTS", "false")
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.resolve().name,
            id=tracking_id(run, "wandb") or keep_tracking_id(run, "wandb"),
            # Without it W&B replaces what it has.
            resume="allow" if done else None,
            dir=str(run),
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(console="off", disable_code=True, disable_git=True),
        )

    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Send the figures of a step."""
        self._run.log(dict(record), step=step)

    def close(self, finished: bool) -> None:
        """End the run; one that was cut short is marked so, and resuming takes it up."""
        self._run.finish(exit_code=0 if finished else 1)
