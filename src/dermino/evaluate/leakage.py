"""Whether an encoder has met a task's test images in pretraining.

Train splits, labels included, of public benchmarks are often part of pretraining data (the paper,
section 4.3.2), so every result says what its encoder has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dermino.data.identity import NAME_COLUMNS, NameIndex, image_names
from dermino.errors import UserError
from dermino.evaluate.task import Task
from dermino.models.encoder_file import FILE_NAME
from dermino.models.load import split_alias

SEEN_FILE = "seen.parquet"
AUDIT_FOLDER = "audit"
PAIRS_FILE = "pairs.parquet"

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


class SamePictures:
    """What ``dermino data audit`` found to be the same picture, to look the other one up by.

    Parameters
    ----------
    pairs:
        Columns ``dataset_a``, ``image_a``, ``origin_a`` (see
        :func:`dermino.data.identity.image_names`) and the same of ``b``; one row a pair.
    """

    def __init__(self, pairs: pa.Table) -> None:
        first, second = (
            pairs.select([f"{name}_{side}" for name in NAME_COLUMNS]).rename_columns(NAME_COLUMNS)
            for side in "ab"
        )
        self._names = pa.concat_tables([first, second])
        self._others = pa.concat_tables([second, first])
        self._index = NameIndex(self._names)

    @classmethod
    def read(cls, folders: Sequence[Path]) -> SamePictures | None:
        """Read the pairs of audits; None where there is no audit.

        Raises
        ------
        UserError
            If a folder holds no audit.
        """
        columns = [f"{name}_{side}" for side in "ab" for name in NAME_COLUMNS]
        tables = []
        for folder in folders:
            try:
                tables.append(pq.read_table(folder / PAIRS_FILE, columns=columns))
            except (pa.ArrowException, OSError) as error:
                raise UserError(
                    f"'{folder}' holds no audit: {error}.",
                    "Make one: dermino data audit MANIFEST --against RUN --out DIR",
                ) from error
        return cls(pa.concat_tables(tables)) if tables else None

    def others(self, names: pa.Table) -> tuple[np.ndarray, pa.Table]:
        """Return the other pictures of pairs, and the row of ``names`` that each belongs to."""
        found = [(row, at) for row, rows in enumerate(self._index.find(names)) for at in rows]
        rows, places = np.array(found, np.int64).reshape(-1, 2).T
        return rows, self._others.take(pa.array(places))


class SeenImages:
    """The images of a pretraining run, to look others up in.

    Parameters
    ----------
    table:
        Columns ``dataset``, ``image`` (a path) and ``labelled`` (bool); and ``origin`` where it is
        known, see :func:`dermino.data.identity.image_names`.
    """

    def __init__(self, table: pa.Table) -> None:
        self._index = NameIndex(table)
        self._labelled = np.asarray(table["labelled"])

    @classmethod
    def read(cls, run: Path | None) -> SeenImages | None:
        """Read the list in a run folder; None where there is none."""
        path = run / SEEN_FILE if run else None
        if path is None or not path.is_file():
            return None
        try:
            return cls(pq.read_table(path))
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise UserError(
                f"'{path}' is not a list of seen images: {error}.",
                "It is written by dermino pretrain; remove it to evaluate without it.",
            ) from error

    def look_up(
        self, names: pa.Table, same_pictures: SamePictures | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which images were seen, and which with a label; shape (n,), bool.

        Parameters
        ----------
        names:
            As :func:`dermino.data.identity.image_names` gives them.
        same_pictures:
            An image that is the same picture as one that was seen counts as seen.
        """
        seen, labelled = np.zeros((2, len(names)), bool)
        for row, found in enumerate(self._index.find(names)):
            seen[row] = bool(found)
            labelled[row] = self._labelled[found].any()
        if same_pictures is not None:
            rows, others = same_pictures.others(names)
            for flags, met in zip((seen, labelled), self.look_up(others), strict=True):
                flags[rows[met]] = True
        return seen, labelled


def seen_in_pretraining(
    task: Task,
    seen_images: SeenImages | None,
    seen: dict[str, Any] | None,
    same_pictures: SamePictures | None = None,
) -> Exposure:
    """Compare a task with what an encoder was pretrained on.

    Images are the same as :meth:`dermino.data.identity.NameIndex.find` says, or when an audit
    found them to be the same picture.

    Parameters
    ----------
    task:
        The task.
    seen_images:
        Every image of the encoder's pretraining, where they are known.
    seen:
        Else counts by dataset from the encoder's file; they can only tell that a dataset was not
        seen at all. None: nothing is known.
    same_pictures:
        What audits found.
    """
    names = image_names(task.manifest)
    if seen_images is None:
        datasets = {task.dataset}
        if same_pictures is not None:
            datasets |= set(same_pictures.others(names)[1]["dataset"].to_pylist())
        never = seen is not None and not datasets & set(seen)
        return Exposure("none", 0, 0, 0, 0) if never else Exposure("unknown")
    met = seen_images.look_up(names, same_pictures)
    test, train = (
        [int(flags[task.rows(split)].sum()) for flags in met] for split in ("test", "train")
    )
    kind: Kind = "images+labels" if test[1] else "images" if test[0] else "none"
    return Exposure(kind, *test, *train)
