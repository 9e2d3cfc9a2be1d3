"""Whether an encoder has met a task's test images in pretraining.

Train splits, labels included, of public benchmarks are often part of pretraining data (the paper,
section 4.3.2), so every result says what its encoder has seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dermino.data.reference import SEPARATOR
from dermino.errors import UserError
from dermino.evaluate.task import Task
from dermino.models.encoder_file import FILE_NAME
from dermino.models.load import split_alias

SEEN_FILE = "seen.parquet"
_COLUMNS = ["dataset", "image", "labelled"]
# The ISIC archive gives a picture one id; its challenges and HAM10000 are datasets that share them.
_ISIC_ID = re.compile(r"ISIC_\d{7}")

# The folders of an image, and whether it was seen with a label.
_Seen = tuple[tuple[str, ...], bool]

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
        self._by_key: dict[str, tuple[_Seen, ...]] = {}
        columns = (table[name].to_pylist() for name in _COLUMNS)
        for dataset, image, labelled in zip(*columns, strict=True):
            key = _key(dataset, image)
            folders = _folders(image)
            namesakes = dict(self._by_key.get(key, ()))
            namesakes[folders] = namesakes.get(folders, False) or bool(labelled)
            self._by_key[key] = tuple(namesakes.items())

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

    def look_up(self, dataset: str, images: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return which of a dataset's images were seen, and which with a label; shape (n,), bool.

        Where several images, among those seen or those looked up, have one file name, the folders
        that both paths have must be the same too.
        """
        keys = [_key(dataset, image) for image in images]
        repeated = Counter(_key(dataset, image) for image in set(images))
        seen, labelled = np.zeros((2, len(images)), bool)
        for row, (key, image) in enumerate(zip(keys, images, strict=True)):
            namesakes = self._by_key.get(key, ())
            if not _is_isic_id(key) and (len(namesakes) > 1 or repeated[key] > 1):
                folders = _folders(image)
                namesakes = tuple(found for found in namesakes if _agree(found[0], folders))
            seen[row] = bool(namesakes)
            labelled[row] = any(with_label for _, with_label in namesakes)
        return seen, labelled


def seen_in_pretraining(
    task: Task, seen_images: SeenImages | None, seen: dict[str, Any] | None
) -> Exposure:
    """Compare a task with what an encoder was pretrained on.

    Images are the same when dataset and base name without extension are (see
    :meth:`SeenImages.look_up` for names that are not unique), or when they carry the same ISIC id.

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
    met = seen_images.look_up(task.dataset, task.images)
    test, train = (
        [int(flags[task.rows(split)].sum()) for flags in met] for split in ("test", "train")
    )
    kind: Kind = "images+labels" if test[1] else "images" if test[0] else "none"
    return Exposure(kind, *test, *train)


def _key(dataset: str, image: str) -> str:
    name = PurePosixPath(image).stem
    isic = _ISIC_ID.search(name)
    return isic.group() if isic else f"{dataset}/{name}"


def _is_isic_id(key: str) -> bool:
    return _ISIC_ID.fullmatch(key) is not None


def _folders(image: str) -> tuple[str, ...]:
    """The folders of a path, innermost first; of one in an archive those inside it."""
    return PurePosixPath(image.rpartition(SEPARATOR)[2]).parent.parts[::-1]


def _agree(folders: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether two paths may be of one file, seen from roots that lie higher or lower."""
    return all(one == other for one, other in zip(folders, others, strict=False))
