"""An array in a file, written row by row and read without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dermino.files import atomic_path


class RowWriter:
    """Appends rows to an ``.npy`` file of known shape.

    Parameters
    ----------
    file:
        Open for writing.
    shape, dtype:
        Of the whole array.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._file = file
        self._shape = shape
        self._dtype = dtype
        self.rows = 0
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(file, header)

    def add(self, rows: np.ndarray) -> None:
        """Append rows, shape (b, ...), of the array's dtype."""
        if rows.shape[1:] != self._shape[1:] or rows.dtype != self._dtype:
            raise ValueError(f"rows of {rows.dtype} {rows.shape[1:]} do not fit")
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)


@contextmanager
def row_writer(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[RowWriter]:
    """Yield a writer of all rows of an array; the file is whole or absent.

    Parameters
    ----------
    path:
        An ``.npy`` file, for :func:`read_rows`.
    shape, dtype:
        Of the whole array.
    """
    # Written as a stream: a full disk is then an error, where a memory map would end the process.
    with atomic_path(path, sync=False) as temporary:
        with open(temporary, "wb") as file:
            writer = RowWriter(file, shape, np.dtype(dtype))
            yield writer
        if writer.rows != shape[0]:
            raise ValueError(f"{writer.rows} rows were written, not {shape[0]}")


def read_rows(path: Path) -> np.ndarray:
    """Return the array, mapped into memory, read-only."""
    return np.load(path, mmap_mode="r")
