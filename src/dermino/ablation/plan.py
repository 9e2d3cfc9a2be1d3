"""What an ablation is going to do, worked out and shown before its first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from rich.table import Table

from dermino.ablation.budget import row_config
from dermino.ablation.columns import PROTOCOLS
from dermino.ablation.evaluation import FOLDER as RESULTS_FOLDER
from dermino.ablation.evaluation import Evaluation, split_manifests
from dermino.ablation.remarks import describe_measurements
from dermino.ablation.row_run import RowRun
from dermino.ablation.tables import AblationTable, Row, ablation_table
from dermino.config import load_config
from dermino.data.manifest import Manifest
from dermino.errors import UserError, unknown
from dermino.knowledge.load import load_taxonomy
from dermino.knowledge.taxonomy import Taxonomy
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.export import seen_images
from dermino.pretrain.method import METHODS
from dermino.pretrain.monitors.held_out import hold_out
from dermino.pretrain.schedules import Length
from dermino.progress import console


@dataclass(frozen=True)
class AblationPlan:
    """The rows to train, their common budget, and what they are measured on.

    Parameters
    ----------
    table:
        The table.
    runs:
        A run for each row whose method is installed, by the row's name.
    chosen:
        Names of the rows to train now.
    evaluation:
        The tasks.
    config:
        The recipe that sets backbone and budget.
    images, steps:
        Images of all manifests without their test rows, and optimiser steps of every row.
    """

    table: AblationTable
    runs: Mapping[str, RowRun]
    chosen: tuple[str, ...]
    evaluation: Evaluation
    config: PretrainConfig
    images: int
    steps: int

    @property
    def left(self) -> list[RowRun]:
        """The runs that are still to be trained now."""
        runs = [self.runs[name] for name in self.chosen if name in self.runs]
        return [run for run in runs if not run.finished]

    def show(self) -> None:
        """Print the plan, with the time that it will take where a row is finished already."""
        shown = Table(title=f"Plan: {self.table.title}", title_justify="left", box=None)
        for heading in (self.table.rows_are, "method", "state", "changes to the recipe"):
            shown.add_column(heading, overflow="fold")
        for row in self.table.chosen(None):
            run = self.runs.get(row.name)
            method = run.config.method if run else str(row.method)
            shown.add_row(row.name, method, self._state(row), " ".join(row.overrides) or "none")
        console.print(shown)
        batch = self.config.batch_size()
        sentences = (
            f"Every row: {self.steps:,} steps of {batch} images, "
            f"{self.steps * batch / self.images:.1f} passes over all {self.images:,}, "
            f"seed {self.config.seed}; {self.config.model.architecture} from "
            f"{self.config.model.init or 'random weights'}.",
            *describe_measurements(self.evaluation.measurements),
            "No test image is trained on.",
        )
        for sentence in sentences:
            console.print(sentence, markup=False, soft_wrap=True)
        self.show_time_left()

    def show_time_left(self) -> None:
        """Print how long the rest will take, going by the rows that are finished."""
        times = [time for run in self.runs.values() if (time := run.seconds) is not None]
        if times and self.left:
            seconds = len(self.left) * sum(times) / len(times)
            console.print(
                f"Rows left to train: {len(self.left)}, about "
                f"{timedelta(seconds=round(seconds))} going by the {len(times)} finished."
            )

    def _state(self, row: Row) -> str:
        run = self.runs.get(row.name)
        if run is None:
            return "not installed"
        if run.finished:
            return "finished"
        if row.name not in self.chosen:
            return "not now"
        return "to continue" if run.begun else "to train"


def plan_ablation(
    table: str,
    data: Sequence[str | Path],
    out: Path,
    labels: str | Path | None,
    recipe: str | Path | None,
    overrides: Sequence[str],
    evaluate_on: Sequence[str | Path] | None,
    rows: Sequence[str] | None,
    cache: str | Path | None,
    protocols: Sequence[str] | None,
) -> AblationPlan:
    """Work out an ablation; parameters and errors as of :func:`dermino.ablation.ablate.ablate`."""
    layout = ablation_table(table, data)
    chosen = tuple(row.name for row in layout.chosen(rows))
    recipe = recipe or METHODS.get("dermino").recipe
    changes, settings = _part(overrides)
    config = load_config(PretrainConfig, recipe, changes)
    manifests = [Manifest.read(path) for path in data]
    images = _training_images(manifests, config)
    taxonomy = load_taxonomy(labels, images) if labels is not None else None
    _check_labels(layout, images, taxonomy)
    tested = evaluate_on or split_manifests(data, manifests)
    seen = seen_images(images, None, config.model.init)
    evaluation = Evaluation.prepare(tested, seen, out / RESULTS_FOLDER, protocols, settings, cache)
    steps = Length.of(config, len(images), config.batch_size()).steps
    runs = {}
    for row in layout.chosen(None):
        if row.method is not None and row.method not in METHODS:
            continue
        runs[row.name] = run = RowRun(
            row,
            row_config(row, recipe, changes, steps),
            out / "recipes" / f"{row.name}.yaml",
            out / "runs" / row.name,
            tuple(data[: row.manifests]),
            labels if row.supervised else None,
        )
        own = _training_images(manifests[: row.manifests], run.config)
        run.refuse_another(own, taxonomy if row.supervised else None)
    return AblationPlan(layout, runs, chosen, evaluation, config, len(images), steps)


def _part(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the changes of the recipe from the parameters of protocols, going by their first word.

    A UserError names the nearest word for one that is neither.
    """
    parts: tuple[list[str], list[str]] = ([], [])
    for override in overrides:
        word = override.partition("=")[0].partition(".")[0].strip()
        if word not in {*PretrainConfig.model_fields, *PROTOCOLS}:
            raise unknown("key in --set", word, [*PretrainConfig.model_fields, *PROTOCOLS])
        parts[word in PROTOCOLS].append(override)
    return parts


def _training_images(manifests: Sequence[Manifest], config: PretrainConfig) -> Manifest:
    """Join manifests without the rows that pretraining leaves out: test, and held-out ones."""
    joined = Manifest.join(manifests)
    held_out = hold_out(joined, None, config.monitor, config.seed)
    kept = np.array(joined.column("split"), object) != "test"
    return joined.select(kept & ~held_out.taken_out)


def _check_labels(table: AblationTable, images: Manifest, taxonomy: Taxonomy | None) -> None:
    if not any(row.method == "dermino" and row.supervised for row in table.rows):
        return
    if taxonomy is None:
        raise UserError(
            f"{table.title}: the knowledge term needs a taxonomy.",
            "Build one with dermino labels build MANIFEST... --out TAXONOMY and name it with "
            "--labels.",
        )
    if not taxonomy.encode(images).labelled.any():
        raise UserError(
            f"{table.title}: no image to train on has a label that the taxonomy knows.",
            "Build the taxonomy from the manifests of --data.",
        )
