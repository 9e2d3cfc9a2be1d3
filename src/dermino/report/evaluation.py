"""``evaluation.json``: encoders, tasks and protocols, as ``dermino evaluate`` describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from dermino.errors import UserError

# What learning curves vary, and how an axis calls it.
CURVE_AXES = {
    "percent": "% of the training images",
    "images": "training images",
    "shots": "training images of each class",
}


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


def read_evaluation(folder: Path) -> Evaluation:
    """Read the file of a results folder; an empty record where it is absent.

    Raises
    ------
    UserError
        If it is no JSON or a value is of another type.
    """
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
