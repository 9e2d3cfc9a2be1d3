"""The Manifest: one table, one row per image; all the rest of the system knows about data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dermino.data.reference import URL_PATTERN, Reference, locate
from dermino.data.schema import COLUMNS
from dermino.data.source_info import SourceInfo, describe, merge, parse_description
from dermino.data.validation import validate
from dermino.errors import UserError
from dermino.files import atomic_path, writable_file

METADATA_KEY = b"dermino"
ORIGINAL_IMAGE = "original_image"


@dataclass(frozen=True)
class Manifest:
    """A validated table of images.

    Parameters
    ----------
    table:
        Arrow table with the columns of :data:`dermino.data.schema.COLUMNS`; others are kept.
    root:
        Folder that ``image`` and ``mask`` are relative to, where they are no URLs.
    sources:
        One :class:`SourceInfo` for each value of the ``dataset`` column.

    Raises
    ------
    UserError
        If a column is missing or a value is out of range; the message names the row.
    """

    table: pa.Table
    root: Path
    sources: Mapping[str, SourceInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "table", validate(self.table))
        names = [name for name in pc.unique(self.table["dataset"]).to_pylist() if name]
        known = {name: self.sources.get(name, SourceInfo(name)) for name in names}
        object.__setattr__(self, "sources", known)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        root: str | Path,
        sources: Iterable[SourceInfo] = (),
    ) -> Manifest:
        """Build a manifest from a pandas table; NaN and None both mean unknown."""
        arrays = {}
        for name in frame.columns:
            column = COLUMNS.get(str(name))
            arrays[str(name)] = _to_arrow(frame[name], column.type if column else None, str(name))
        return cls(pa.table(arrays), Path(root), {info.name: info for info in sources})

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> Manifest:
        """Read a manifest written by :meth:`write`, or a CSV with the same columns.

        Parameters
        ----------
        path:
            ``.parquet`` or ``.csv`` file.
        root:
            Folder of the images, when they have moved. Default: as stored; for CSV, its folder.
        """
        path = Path(path)
        if path.is_dir():
            raise UserError(
                f"'{path}' is a folder, not a manifest.",
                f"Import it first: dermino data import folder '{path}' --out manifest.parquet",
            )
        if not path.is_file():
            raise UserError(f"There is no manifest '{path}'.", "Check the path.")
        if path.suffix.lower() == ".csv":
            from dermino.data.manifest_csv import read_csv

            return read_csv(path, root=root)
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"'{path}' is not a readable Parquet file: {reason}",
                "A manifest is a .parquet or .csv file: write it again, or import the images.",
            ) from error
        stored = (table.schema.metadata or {}).get(METADATA_KEY)
        described_root, sources = parse_description(stored or b"{}", path)
        refuse_no_rows(len(table), path)
        try:
            return cls(table, Path(root or described_root), sources)
        except UserError as error:
            raise UserError(f"{path}: {error.message}", error.remedy) from error

    def write(self, path: str | Path) -> None:
        """Write the manifest as Parquet (or CSV, by suffix), atomically.

        The root is stored relative to the file where one lies below the other, so that a folder
        of images can be moved together with its manifest.
        """
        path = Path(path)
        if path.suffix.lower() == ".csv":
            from dermino.data.manifest_csv import write_csv

            write_csv(self, path)
            return
        description = json.dumps(self.describe(path.parent), ensure_ascii=False)
        metadata = {METADATA_KEY: description.encode()}
        with atomic_path(path) as temporary:
            pq.write_table(
                self.table.replace_schema_metadata(metadata), temporary, compression="zstd"
            )

    def describe(self, folder: Path) -> dict[str, Any]:
        """What is stored beside the table: the root as seen from ``folder``, and the sources."""
        return describe(self.root, self.sources, folder)

    @classmethod
    def join(cls, manifests: Sequence[Manifest]) -> Manifest:
        """Put manifests under one another; paths become relative to the roots' common folder."""
        if not manifests:
            raise UserError("No manifest was given.")
        if len(manifests) == 1:
            return manifests[0]
        roots = [manifest.root.absolute() for manifest in manifests]
        common = Path(os.path.commonpath(roots))
        tables = []
        sources: dict[str, SourceInfo] = {}
        for manifest, root in zip(manifests, roots, strict=True):
            prefix = root.relative_to(common).as_posix()
            tables.append(_prefix_paths(manifest.table, "" if prefix == "." else prefix + "/"))
            for name, info in manifest.sources.items():
                sources[name] = merge(sources[name], info) if name in sources else info
        try:
            joined = pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(
                f"The manifests do not fit under one another: {error}.",
                "Give the column one type in all of them, or drop it.",
            ) from error
        return cls(joined, common, sources)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def frame(self) -> pd.DataFrame:
        """The table as pandas with Arrow-backed columns (no copy of strings or lists)."""
        return self.table.to_pandas(types_mapper=pd.ArrowDtype)

    @property
    def labels(self) -> list[list[str]]:
        """The label names of every row."""
        return self.table["labels"].to_pylist()

    @property
    def labelled(self) -> np.ndarray:
        """Which rows carry at least one label, shape (n,), bool."""
        lengths = pc.list_value_length(self.table["labels"])
        return np.asarray(pc.greater(lengths, 0))

    def column(self, name: str) -> list[Any]:
        """The values of a column as Python objects; None where the manifest has no such column."""
        if name not in self.table.column_names:
            return [None] * len(self)
        return self.table[name].to_pylist()

    @property
    def original_images(self) -> pa.ChunkedArray:
        """What each image was called before it went into a shard: what tells it from others."""
        images = self.table["image"]
        if ORIGINAL_IMAGE not in self.table.column_names:
            return images
        return pc.coalesce(self.table[ORIGINAL_IMAGE], images)

    def path(self, row: int) -> Reference:
        """Where the image of ``row`` is: a path, or text for a URL; see :mod:`.reference`."""
        return self.locate(self.table["image"][row].as_py())

    def paths(self) -> list[Reference]:
        """Where all images are."""
        return [self.locate(name) for name in self.table["image"].to_pylist()]

    def locate(self, name: str) -> Reference:
        """Where an image or mask is that the table calls ``name``."""
        return locate(self.root, name)

    def select(self, rows: np.ndarray | Sequence[int] | Sequence[bool]) -> Manifest:
        """Return the rows of a boolean mask or an index array, in that order."""
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            if chosen.all() and len(chosen) == len(self):
                return self
            chosen = np.flatnonzero(chosen)
        return replace(self, table=self.table.take(pa.array(chosen, pa.int64())))

    def with_columns(self, **columns: Sequence[Any] | np.ndarray | pa.Array) -> Manifest:
        """Return a manifest with columns added or replaced."""
        table = self.table
        for name, values in columns.items():
            column = COLUMNS.get(name)
            array = (
                values
                if isinstance(values, pa.Array | pa.ChunkedArray)
                else pa.array(values, column.type if column else None, from_pandas=True)
            )
            if name in table.column_names:
                table = table.set_column(table.column_names.index(name), name, array)
            else:
                table = table.append_column(name, array)
        return replace(self, table=table)

    def summary(self) -> pd.DataFrame:
        """Count images, labelled images, labels, lesions and patients of each dataset."""
        frame = self.frame
        rows = []
        for name, part in frame.assign(labelled=self.labelled).groupby("dataset"):
            rows.append(
                {
                    "dataset": name,
                    "images": len(part),
                    "labelled": int(part["labelled"].sum()),
                    "labels": part["labels"].explode().nunique(),
                    "patients": part["patient_id"].nunique() if "patient_id" in part else 0,
                    "lesions": part["lesion_id"].nunique() if "lesion_id" in part else 0,
                }
            )
        return pd.DataFrame(rows)


def read_manifests(paths: Sequence[str | Path]) -> Manifest:
    """Read several manifests and join them.

    Raises
    ------
    UserError
        If one cannot be read, or is given twice: its images would count twice.
    """
    files = [Path(path).resolve() for path in paths]
    for path, file in zip(paths, files, strict=True):
        if files.count(file) > 1:
            raise UserError(f"The manifest '{path}' is given twice.", "Name it once.")
    return Manifest.join([Manifest.read(path) for path in paths])


def writable_manifest(path: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Prove that a manifest can be written to ``path``, before any long work starts.

    Parameters
    ----------
    path:
        The ``.parquet`` or ``.csv`` file to write.
    inputs:
        Files that are read, none of which it may replace.

    Raises
    ------
    UserError
        If it ends otherwise, or for what :func:`dermino.files.writable_file` finds.
    """
    path = Path(path)
    if path.suffix.lower() not in {".parquet", ".csv"}:
        raise UserError(
            f"'{path}' ends neither in .parquet nor in .csv.",
            f"Write {path.with_suffix('.parquet')}",
        )
    return writable_file(path, inputs)


def refuse_no_rows(rows: int, path: Path) -> None:
    """Raise a UserError for a manifest without images: whatever is done with it cannot be meant."""
    if not rows:
        raise UserError(f"The manifest '{path}' has no rows.", "Import the images again.")


def _to_arrow(values: pd.Series, kind: pa.DataType | None, name: str) -> pa.Array:
    if kind is not None and pa.types.is_list(kind):
        values = values.map(lambda items: [] if items is None else list(items))
    try:
        array = pa.array(values, type=kind, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"Column '{name}' cannot be read as {kind}: {error}.") from error
    if pa.types.is_large_string(array.type):
        array = array.cast(pa.string())  # Or a table could not be joined with one read from disk.
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _prefix_paths(table: pa.Table, prefix: str) -> pa.Table:
    if prefix:
        for name in ("image", "mask"):
            if name in table.column_names:
                moved = pc.if_else(
                    pc.match_substring_regex(table[name], URL_PATTERN),
                    table[name],
                    pc.binary_join_element_wise(prefix, table[name], ""),
                )
                table = table.set_column(table.column_names.index(name), name, moved)
    return table.replace_schema_metadata(None)
