"""Parts of a long search, each kept as soon as it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermino.files import atomic_path
from dermino.progress import track


class Blocks:
    """Keeps what the parts of a search found, so that it goes on where it was stopped.

    Parameters
    ----------
    folder:
        Where to keep it; may be removed when all is done.
    searched:
        The array that is searched, of any shape.
    settings:
        All else that the result depends on.
    """

    def __init__(self, folder: Path, searched: np.ndarray, settings: dict[str, Any]) -> None:
        digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(searched).data)
        self._folder = folder / digest.hexdigest()

    def each(
        self, number: int, search: Callable[[int], pd.DataFrame], description: str
    ) -> Iterator[pd.DataFrame]:
        """Yield what each of ``number`` parts finds; those found before are read."""
        for block in track(range(number), description, total=number):
            path = self._folder / f"{block}.parquet"
            if path.is_file():
                yield pd.read_parquet(path)
                continue
            found = search(block)
            with atomic_path(path) as temporary:
                found.to_parquet(temporary, index=False)
            yield found
