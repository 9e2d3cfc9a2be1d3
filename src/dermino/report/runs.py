"""Reading pretraining run folders: what was seen, how the run was set, how the losses fell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermino.pretrain.metrics_log import read_metrics
from dermino.pretrain.monitors.figures import COLLAPSE, FIGURES
from dermino.report.evaluation import Seen
from dermino.report.exhibit import Panel
from dermino.report.figures import Series, training
from dermino.report.style import Mark

RUN_FILES = ("metrics.jsonl", "plan.json", "seen.parquet")
_SMOOTHED_SHARE = 40
_SMOOTHED_FEWEST = 5
_SMOOTHED_FROM = 20
_MOST_POINTS = 400
_QUANTITIES = {
    "total": "Total loss",
    "image_global": "Image loss, global views",
    "image_local": "Image loss, local views",
    "patch": "Patch loss",
    "koleo": "KoLeo loss",
    "knowledge": "Knowledge loss",
    "learning_rate": "Learning rate",
    "images_per_second": "Images per second",
}
_MONITORS = {name: figure.title for name, figure in FIGURES.items()}
_NOT_SHOWN = {"step", "epoch", "weight_decay", "momentum", "teacher_temp", "data_wait", COLLAPSE}
_HIGHLIGHTS = {
    "method": "method {}",
    "init": "from {}",
    "steps": "{:,} steps",
    "batch_size": "{:,} images a step",
    "true_epochs": "{:.1f} passes over the images",
    "concepts": "{:,} concepts",
    "peak_lr": "peak learning rate {:.2g}",
    "precision": "{}",
}


@dataclass(frozen=True)
class Run:
    """A pretraining run.

    Parameters
    ----------
    name:
        The encoder it made, or its folder's name.
    folder:
        Where it is.
    metrics:
        One row for each logged step, ordered by ``step``; empty where there is no log.
    plan:
        ``plan.json``; empty where it is absent.
    seen:
        Images and labelled images of each dataset, or None where that is not recorded.
    """

    name: str
    folder: Path
    metrics: pd.DataFrame
    plan: Mapping[str, Any]
    seen: Mapping[str, Seen] | None

    @classmethod
    def read(cls, folder: str | Path, name: str | None = None) -> Run:
        """Read a run folder; whatever is missing or unreadable in it stays empty."""
        folder = Path(folder)
        return cls(
            name or folder.name,
            folder,
            _metrics(folder),
            _read_plan(folder / "plan.json"),
            _read_seen(folder / "seen.parquet"),
        )

    @property
    def highlights(self) -> str:
        """The settings worth a line on the page."""
        parts = [
            text.format(self.plan[key]) for key, text in _HIGHLIGHTS.items() if self.plan.get(key)
        ]
        if not self.metrics.empty and self.plan.get("steps"):
            last = int(self.metrics["step"].iloc[-1])
            if last < self.plan["steps"]:
                parts.append(f"not finished: the log ends at step {last:,}")
        return ", ".join(parts)


def training_panels(runs: Iterable[Run], looks: Mapping[str, Mark]) -> list[Panel]:
    """Draw losses, monitors, learning rate and throughput over the steps, all runs together.

    Smoothed curves are running means over a fortieth of the log, but of five records at least;
    what has fewer than twenty records is shown as it is.
    """
    logged = [run for run in runs if not run.metrics.empty]
    columns = dict.fromkeys(column for run in logged for column in run.metrics.columns)
    known = {**_QUANTITIES, **_MONITORS}
    others = [name for name in columns if name not in known and name not in _NOT_SHOWN]
    losses = [name for name in _QUANTITIES if name not in ("learning_rate", "images_per_second")]
    order = [*losses, *others, *_MONITORS, "learning_rate", "images_per_second"]
    panels = []
    for quantity in order:
        raw, smooth = [], []
        for run in logged:
            if quantity not in run.metrics or run.metrics[quantity].notna().sum() == 0:
                continue
            curve = run.metrics[["step", quantity]].dropna()
            window = max(_SMOOTHED_FEWEST, len(curve) // _SMOOTHED_SHARE)
            if len(curve) < _SMOOTHED_FROM:
                window = 1
            mean = curve[quantity].rolling(window, center=True, min_periods=1).mean()
            raw.append(_series(run.name, curve["step"], curve[quantity]))
            smooth.append(_series(run.name, curve["step"], mean))
        if raw:
            title = known.get(quantity, quantity.replace("_", " ").capitalize())
            ends = "; ".join(f"{curve.name} ends at {curve.y[-1]:.4g}" for curve in smooth)
            alt = f"{title} over the training steps: {ends}."
            panel = training(raw, smooth, looks, alt, f"training-{quantity}")
            panels.append(Panel(title, panel))
    return panels


def _series(name: str, steps: pd.Series, values: pd.Series) -> Series:
    keep = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _MOST_POINTS)).astype(int))
    return Series(name, steps.to_numpy()[keep], values.to_numpy()[keep])


def _metrics(folder: Path) -> pd.DataFrame:
    frame = pd.DataFrame(read_metrics(folder))
    if "step" not in frame:
        return pd.DataFrame()
    numbers = frame.select_dtypes("number").replace([np.inf, -np.inf], np.nan)
    return numbers.sort_values("step").reset_index(drop=True)


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def _read_seen(path: Path) -> dict[str, Seen] | None:
    try:
        frame = pd.read_parquet(path, columns=["dataset", "labelled"])
    except (OSError, ValueError, KeyError):
        return None
    counts = frame.groupby("dataset")["labelled"].agg(["size", "sum"])
    return {
        str(name): Seen(images=int(size), labelled=int(labelled))
        for name, size, labelled in counts.itertuples()
    }
