"""Confusion matrices from the prediction files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dermino.report.exhibit import shade

MOST_CLASSES = 14
_MOST_PAIRS = 15


@dataclass(frozen=True)
class Cell:
    """One cell: how many images, which share of their true class, and how it is painted."""

    count: int
    share: float
    correct: bool
    shade: str
    dark: bool


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix; ``rows`` hold a true class each, in the order of ``classes``.

    With more classes than can be printed, ``rows`` is empty and ``pairs`` holds the most frequent
    confusions: true class, predicted class, count, share of the true class.
    """

    encoder: str
    classes: list[str]
    rows: list[tuple[str, int, list[Cell]]]
    pairs: list[tuple[str, str, int, float]]


def confusion(predictions: pd.DataFrame, classes: Sequence[str], encoder: str) -> Confusion:
    """Count true against predicted classes; rows are normalised to shares of the true class.

    Parameters
    ----------
    predictions:
        With ``target`` and ``predicted``.
    classes:
        In the order to be shown.
    encoder:
        Whose predictions they are.
    """
    names = list(classes)
    table = pd.crosstab(predictions["target"], predictions["predicted"])
    counts = table.reindex(index=names, columns=names, fill_value=0).to_numpy()
    totals = [int(total) for total in counts.sum(axis=1)]
    if len(names) > MOST_CLASSES:
        pairs = [
            (names[row], names[column], int(counts[row, column]), counts[row, column] / totals[row])
            for row, column in zip(*counts.nonzero(), strict=True)
            if row != column
        ]
        pairs.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
        return Confusion(encoder, names, [], pairs[:_MOST_PAIRS])
    rows = []
    for row, (actual, total) in enumerate(zip(names, totals, strict=True)):
        cells = [
            _cell(int(count), total, row == column) for column, count in enumerate(counts[row])
        ]
        rows.append((actual, total, cells))
    return Confusion(encoder, names, rows, [])


def _cell(count: int, total: int, correct: bool) -> Cell:
    share = count / total if total else 0.0
    return Cell(count, share, correct, *shade(share))
