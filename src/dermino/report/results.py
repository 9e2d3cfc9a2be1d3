"""Reading the folder that ``dermino evaluate`` writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from dermino.errors import UserError
from dermino.report.comparisons import read_comparisons, read_ranks
from dermino.report.metric_names import headline_metrics
from dermino.report.results_table import EVALUATE_FIRST, read_table

SCORE = "score:"
# What learning curves vary, and how an axis calls it.
CURVE_AXES = {
    "percent": "% of the training images",
    "images": "training images",
    "shots": "training images of each class",
}
_RecordT = TypeVar("_RecordT", bound="EncoderRecord | TaskRecord | ProtocolRecord")


class _Record(BaseModel):
    """A part of ``evaluation.json``; keys that a later version adds are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Seen(_Record):
    """How many images of one dataset an encoder was pretrained on, and how many had labels."""

    images: int = 0
    labelled: int = 0


class EncoderRecord(_Record):
    """One encoder that was evaluated; ``seen`` is None where nobody knows."""

    name: str
    spec: str = ""
    identity: str = ""
    architecture: str = ""
    embed_dim: int | None = None
    image_size: int | None = None
    parameters: int | None = None
    seen: dict[str, Seen] | None = None
    run: str | None = None

    @property
    def untrained(self) -> bool:
        """Whether its own file says that it saw no image in pretraining."""
        return self.seen == {}


class TaskRecord(_Record):
    """One task.

    ``root`` is the folder that the predictions' images are relative to. ``classes`` is None where
    they are not recorded, and empty where the images carry no labels.
    """

    name: str
    kind: str = "classification"
    dataset: str = ""
    title: str = ""
    root: str = ""
    classes: tuple[str, ...] | None = None
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None
    counts_train: dict[str, int] = {}
    counts_val: dict[str, int] = {}
    counts_test: dict[str, int] = {}
    licence: str = ""
    citation: str = ""
    synthetic: bool = False
    bootstrap_unit: str = "image"
    notes: tuple[str, ...] = ()
    definition: dict[str, Any] = {}

    @property
    def labelled(self) -> bool:
        """Whether there are answers to score against."""
        return self.kind != "unlabelled" and (self.classes != () or not self.has_classes)

    @property
    def has_classes(self) -> bool:
        """Whether answers are classes, which confusions and ROC curves are made of."""
        return self.kind in ("classification", "ordinal", "multilabel", "unlabelled")

    @property
    def called(self) -> str:
        """The title, or else the name."""
        return self.title or self.name


class ProtocolRecord(_Record):
    """How a question is put to an encoder."""

    name: str
    title: str = ""
    description: str = ""
    parameters: dict[str, Any] = {}

    @property
    def called(self) -> str:
        """The title, or else the name."""
        return self.title or self.name

    @property
    def point(self) -> tuple[str, float]:
        """What a point of a learning curve varies and its value; nothing for another protocol."""
        for axis in CURVE_AXES if "probe" in self.parameters else ():
            match self.parameters.get(axis):
                case [int() | float() as value]:
                    return axis, float(value)
        return "", 0.0

    @property
    def curve(self) -> str:
        """The name of the curve that it is a point of."""
        return self.name.rpartition("-")[0]


class Bootstrap(_Record):
    """How the intervals were made."""

    replicates: int | None = None
    confidence: float = 0.95
    method: str = "percentile"


class Exposure(_Record):
    """How many images of a task an encoder saw in pretraining; None where unknown.

    ``name`` is the encoder's and the task's, with a slash between them.
    """

    name: str
    kind: str = "unknown"
    test_images: int | None = None
    test_labelled: int | None = None
    train_images: int | None = None
    train_labelled: int | None = None


class Evaluation(_Record):
    """``evaluation.json``: everything about an evaluation that is not a number to compare."""

    run_id: str = ""
    created: str = ""
    versions: dict[str, str] = {}
    command: tuple[str, ...] = ()
    seed: int | None = None
    bootstrap: Bootstrap | None = None
    encoders: tuple[EncoderRecord, ...] = ()
    tasks: tuple[TaskRecord, ...] = ()
    protocols: tuple[ProtocolRecord, ...] = ()
    exposures: tuple[Exposure, ...] = ()


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
        return cls(folder, read_table(folder / "results.csv"), _read_evaluation(folder))

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


def _read_evaluation(folder: Path) -> Evaluation:
    path = folder / "evaluation.json"
    if not path.is_file():
        return Evaluation()
    try:
        return Evaluation.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise UserError(f"'{path}' is not valid JSON: {error}.", "Evaluate again.") from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"'{path}', '{key}': {problem['msg']}.", "Evaluate again.") from error


def _in_order(
    known: tuple[_RecordT, ...], present: pd.Series, record: type[_RecordT]
) -> list[_RecordT]:
    """Return the records of the names in ``present``; a bare one for a name not described."""
    names = list(dict.fromkeys(present))
    described = [item for item in known if item.name in names]
    missing = [name for name in names if name not in {item.name for item in described}]
    return described + [record(name=name) for name in missing]
