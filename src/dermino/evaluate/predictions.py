"""What is kept of every cell besides its rows: predictions, a protocol's files, checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dermino.errors import UserError
from dermino.evaluate.bootstrap import number_clusters
from dermino.evaluate.kinds import KINDS, AnyPredictions
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.protocol import Outcome
from dermino.evaluate.task import Task
from dermino.files import atomic_path


@dataclass(frozen=True)
class Cell:
    """One encoder, task and protocol.

    ``run_id`` is a hash of all that the result depends on: an equal one means an equal result.
    """

    encoder: str
    task: str
    protocol: str
    run_id: str


@dataclass(frozen=True)
class KeptPredictions:
    """The predictions below a results folder."""

    folder: Path

    def path(self, cell: Cell) -> Path:
        """Where the predictions for the test rows lie."""
        return self.folder / "predictions" / cell.task / f"{cell.encoder}.{cell.protocol}.parquet"

    def validation_path(self, cell: Cell) -> Path:
        """Where the predictions for validation rows lie, where there are any."""
        return self.path(cell).with_suffix(".validation.parquet")

    def files_path(self, cell: Cell) -> Path:
        """The folder of what a protocol keeps besides, such as predicted masks."""
        return self.path(cell).with_suffix("")

    def work_path(self, cell: Cell) -> Path:
        """The folder of a cell's checkpoints, which is there until the cell is done."""
        return self.folder / "work" / cell.task / f"{cell.encoder}.{cell.protocol}.{cell.run_id}"

    def begin(self, cell: Cell) -> None:
        """Remove the files of an earlier result, unless this one has been begun already."""
        if not self.work_path(cell).exists():
            shutil.rmtree(self.files_path(cell), ignore_errors=True)

    def remove_work(self, cell: Cell) -> None:
        """Remove a cell's checkpoints."""
        shutil.rmtree(self.work_path(cell), ignore_errors=True)

    def write(self, cell: Cell, task: Task, outcome: Outcome) -> None:
        """Write what an outcome says of single images, in place of an earlier one.

        ``cluster`` numbers the patients or lesions that a bootstrap draws whole, where there are.
        """
        columns: dict[str, Any] = {}
        if outcome.predictions is not None:
            columns |= outcome.predictions.columns()
        for name, values in outcome.columns.items():
            columns[name] = pa.array(values)
        for name, own in outcome.scores.items():
            if isinstance(own, PooledScore) and own.per_image is not None:
                columns[f"value:{name}"] = pa.array(own.per_image)
        clusters = task.clusters()[1]
        if clusters is not None and (outcome.predictions is not None or outcome.scores):
            columns["cluster"] = pa.array(number_clusters(clusters))
        if outcome.validation is None:
            self.validation_path(cell).unlink(missing_ok=True)
        else:
            rows = outcome.validation_rows
            rows = task.rows("val") if rows is None else rows
            _write(self.validation_path(cell), cell, task, rows, outcome.validation.columns())
        _write(self.path(cell), cell, task, task.rows("test"), columns)

    def read(self, cell: Cell, task: Task) -> tuple[AnyPredictions, AnyPredictions | None]:
        """Read the predictions for the test rows, and for validation rows where there are any.

        Raises
        ------
        ValueError
            If tasks of this kind keep no predictions.
        UserError
            If the file is gone.
        """
        kind = KINDS[task.kind].predictions
        if kind is None:
            raise ValueError(f"a {task.kind} task keeps no predictions")
        test, validation = (
            kind.from_table(pq.read_table(path), task.classes) if path.is_file() else None
            for path in (self.path(cell), self.validation_path(cell))
        )
        if test is None:
            raise UserError(
                f"'{self.path(cell)}' is missing.",
                "Remove the folder's results.csv to evaluate again.",
            )
        return test, validation


def _write(
    path: Path, cell: Cell, task: Task, rows: np.ndarray, columns: Mapping[str, Any]
) -> None:
    images = pa.array(task.images).take(pa.array(rows))
    table = pa.table({"image": images, **columns})
    with atomic_path(path) as temporary:
        described = table.replace_schema_metadata({"run_id": cell.run_id})
        pq.write_table(described, temporary, compression="zstd")
