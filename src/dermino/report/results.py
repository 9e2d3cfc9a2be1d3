"""Reading the folder that ``dermino evaluate`` writes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pandas as pd

from dermino.errors import UserError
from dermino.evaluate.metric_names import headline_metrics
from dermino.report.comparisons import read_comparisons, read_ranks
from dermino.report.evaluation import (
    EncoderRecord,
    Evaluation,
    ProtocolRecord,
    TaskRecord,
    read_evaluation,
)
from dermino.report.results_table import EVALUATE_FIRST, read_table

SCORE = "score:"
_RecordT = TypeVar("_RecordT", bound="EncoderRecord | TaskRecord | ProtocolRecord")


@dataclass(frozen=True)
class Results:
    """A folder of results.

    Parameters
    ----------
    folder:
        Where it is.
    table:
        ``results.csv``, one row for each encoder, task, protocol, subgroup and metric.
    evaluation:
        ``evaluation.json``; empty where the file is absent.
    """

    folder: Path
    table: pd.DataFrame
    evaluation: Evaluation

    @classmethod
    def read(cls, folder: str | Path) -> Results:
        """Read a folder.

        Raises
        ------
        UserError
            If the folder, its ``results.csv`` or one of its columns is missing, or a number or
            ``evaluation.json`` cannot be read.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"There is no folder of results '{folder}'.", EVALUATE_FIRST)
        return cls(folder, read_table(folder / "results.csv"), read_evaluation(folder))

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """``comparisons.csv`` of ``dermino compare``; without rows where it is absent."""
        return read_comparisons(self.folder)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """``ranks.csv`` of ``dermino compare``; without rows where it is absent."""
        return read_ranks(self.folder)

    @cached_property
    def encoders(self) -> list[EncoderRecord]:
        """The encoders that have results, in the order they were asked for."""
        return _in_order(self.evaluation.encoders, self.table["encoder"], EncoderRecord)

    @cached_property
    def tasks(self) -> list[TaskRecord]:
        """The tasks that have results, in the order they were asked for."""
        return _in_order(self.evaluation.tasks, self.table["task"], TaskRecord)

    @cached_property
    def protocols(self) -> list[ProtocolRecord]:
        """The protocols that have results, as asked for, without points of learning curves."""
        return [record for record in self._all_protocols if not record.point[0]]

    @cached_property
    def curve_points(self) -> list[ProtocolRecord]:
        """The protocols that are points of learning curves."""
        return [record for record in self._all_protocols if record.point[0]]

    @cached_property
    def plain(self) -> pd.DataFrame:
        """The rows of ``table`` that are no points of learning curves."""
        return self.table[self.table["protocol"].isin([record.name for record in self.protocols])]

    @cached_property
    def _all_protocols(self) -> list[ProtocolRecord]:
        return _in_order(self.evaluation.protocols, self.table["protocol"], ProtocolRecord)

    def overall(self, task: str) -> pd.DataFrame:
        """Return the rows of one task over all its test images, without learning curves."""
        return self.plain[(self.plain["task"] == task) & (self.plain["subgroup"] == "all")]

    def headlines(self, task: TaskRecord) -> list[str]:
        """Return the metrics that stand for a task among those it has over all test images."""
        asked = task.definition.get("metrics", ())
        present = list(dict.fromkeys(self.overall(task.name)["metric"]))
        return headline_metrics(task.kind, asked, present)

    def predictions(self, task: str, encoder: str, protocol: str) -> pd.DataFrame | None:
        """Read the per-image predictions, or None where the folder does not hold them."""
        path = self.folder / "predictions" / task / f"{encoder}.{protocol}.parquet"
        return _read_parquet(path)

    def files(self, task: str, encoder: str, protocol: str) -> Path:
        """Return the folder of what a protocol keeps besides, such as predicted masks."""
        return self.folder / "predictions" / task / f"{encoder}.{protocol}"


def scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of scores, shape (n, C), named by class."""
    columns = [name for name in predictions.columns if str(name).startswith(SCORE)]
    return predictions[columns].rename(columns=lambda name: name.removeprefix(SCORE))


def _read_parquet(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{path}' is not a readable Parquet file: {error}.",
            "Remove it to report without it, or evaluate again.",
        ) from error
    answers = {"target", "predicted"} if not scores(frame).empty else set()
    missing = {"image", *answers} - set(frame.columns)
    if missing:
        raise UserError(f"'{path}' lacks the column '{sorted(missing)[0]}'.", "Evaluate again.")
    return frame


def _in_order(
    known: tuple[_RecordT, ...], present: pd.Series, record: type[_RecordT]
) -> list[_RecordT]:
    """Return the records of the names in ``present``; a bare one for a name not described."""
    names = list(dict.fromkeys(present))
    described = [item for item in known if item.name in names]
    missing = [name for name in names if name not in {item.name for item in described}]
    return described + [record(name=name) for name in missing]
