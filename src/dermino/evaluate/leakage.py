"""Whether an encoder has met a task's test images in pretraining.

Train splits, labels included, of public benchmarks are often part of pretraining data (the paper,
section 4.3.2), so every result says what its encoder has seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dermino.errors import UserError
from dermino.evaluate.task import Task
from dermino.models.encoder_file import FILE_NAME
from dermino.models.load import split_alias

SEEN_FILE = "seen.parquet"
_COLUMNS = ["dataset", "image", "labelled"]
# The ISIC archive gives a picture one id; its challenges and HAM10000 are datasets that share them.
_ISIC_ID = re.compile(r"ISIC_\d{7}")

Kind = Literal["none", "images", "images+labels", "unknown"]


@dataclass(frozen=True)
class Exposure:
    """What an encoder has seen of a task in pretraining.

    Parameters
    ----------
    kind:
        Of the test images: ``none``, ``images``, ``images+labels``, or ``unknown``.
    test_images, test_labelled, train_images, train_labelled:
        How many were seen, and with labels; None where unknown.
    """

    kind: Kind
    test_images: int | None = None
    test_labelled: int | None = None
    train_images: int | None = None
    train_labelled: int | None = None

    def describe(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def run_folder(spec: str) -> Path | None:
    """Return the pretraining run that an encoder's name stands for, None for other encoders."""
    path = Path(split_alias(spec)[1])
    if path.name == FILE_NAME:
        path = path.parent
    return path.absolute() if (path / FILE_NAME).is_file() else None


class SeenImages:
    """The images of a pretraining run, to look others up in.

    Parameters
    ----------
    table:
        Columns ``dataset``, ``image`` (a path) and ``labelled`` (bool).
    """

    def __init__(self, table: pa.Table) -> None:
        self._labelled: dict[str, bool] = {}
        columns = (table[name].to_pylist() for name in _COLUMNS)
        for dataset, image, labelled in zip(*columns, strict=True):
            key = _key(dataset, image)
            self._labelled[key] = self._labelled.get(key, False) or bool(labelled)

    @classmethod
    def read(cls, run: Path | None) -> SeenImages | None:
        """Read the list in a run folder; None where there is none."""
        path = run / SEEN_FILE if run else None
        if path is None or not path.is_file():
            return None
        try:
            return cls(pq.read_table(path, columns=_COLUMNS))
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise UserError(
                f"'{path}' is not a list of seen images: {error}.",
                "It is written by dermino pretrain; remove it to evaluate without it.",
            ) from error

    def count(self, dataset: str, images: Iterable[str]) -> tuple[int, int]:
        """Return how many of a dataset's images were seen, and how many of them with a label."""
        keys = (_key(dataset, image) for image in images)
        found = [self._labelled[key] for key in keys if key in self._labelled]
        return len(found), sum(found)


def seen_in_pretraining(
    task: Task, seen_images: SeenImages | None, seen: dict[str, Any] | None
) -> Exposure:
    """Compare a task with what an encoder was pretrained on.

    Images are the same when dataset and base name without extension are, or when they carry the
    same ISIC id.

    Parameters
    ----------
    task:
        The task.
    seen_images:
        Every image of the encoder's pretraining, where they are known.
    seen:
        Else counts by dataset from the encoder's file; they can only tell that a dataset was not
        seen at all. None: nothing is known.
    """
    if seen_images is None:
        never = seen is not None and task.dataset not in seen
        return Exposure("none", 0, 0, 0, 0) if never else Exposure("unknown")
    images = task.images
    test, train = (
        seen_images.count(task.dataset, (images[row] for row in task.rows(split)))
        for split in ("test", "train")
    )
    kind: Kind = "images+labels" if test[1] else "images" if test[0] else "none"
    return Exposure(kind, *test, *train)


def _key(dataset: str, image: str) -> str:
    name = PurePosixPath(image).stem
    isic = _ISIC_ID.search(name)
    return isic.group() if isic else f"{dataset}/{name}"
