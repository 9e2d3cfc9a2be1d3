"""Reading what ``dermino compare`` wrote beside the results: differences and ranks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dermino.errors import UserError

_COMPARISONS = [
    "task", "protocol", "metric", "encoder", "other", "difference", "ci_low", "ci_high",
    "test", "p", "p_holm", "n", "note",
]  # fmt: skip
_RANKS = [
    "protocol", "metric", "encoder", "mean_rank", "tasks", "friedman_p", "critical_difference",
]  # fmt: skip
_REMEDY = "Remove it, or make it again with: dermino compare RESULTS"


def read_comparisons(folder: Path) -> pd.DataFrame:
    """Read ``comparisons.csv``: one row for each pair of encoders, metric and test."""
    return _read(folder / "comparisons.csv", _COMPARISONS)


def read_ranks(folder: Path) -> pd.DataFrame:
    """Read ``ranks.csv``: the mean rank of each encoder for a protocol and metric."""
    return _read(folder / "ranks.csv", _RANKS)


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return a table without rows where there is no file."""
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=["nan"])
    except ValueError as error:
        raise UserError(f"'{path}' is not a readable table: {error}.", _REMEDY) from error
    if missing := [column for column in columns if column not in table.columns]:
        raise UserError(f"'{path}' has no column '{missing[0]}'.", _REMEDY)
    return table
