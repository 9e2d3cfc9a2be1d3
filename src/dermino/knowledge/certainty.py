"""How sure a label is: the weights and confidences of a differential diagnosis."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dermino.data.manifest import Manifest
from dermino.errors import UserError

WEIGHTS = "label_weights"
CONFIDENCES = "label_confidences"


@dataclass(frozen=True)
class Certainty:
    """Which labels count, and for how much.

    The manifest's columns ``label_weights`` and ``label_confidences`` hold a JSON object from
    label to number, or nothing; a label that they do not name is certain.

    Parameters
    ----------
    soft:
        Take a label's weight as its target y instead of 1.
    min_weight:
        Labels of less weight are neither present nor absent (n = 0).
    min_confidence:
        Labels of less confidence are neither present nor absent; SCIN's dermatologists say 1 to 5.
    """

    soft: bool = False
    min_weight: float = 0.1
    min_confidence: float = 2


def label_weights(
    manifest: Manifest, lists: pa.ListArray, owner: np.ndarray, certainty: Certainty
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of every label of every row, and whether it is sure enough to count.

    Parameters
    ----------
    manifest:
        The manifest.
    lists:
        Its column ``labels``.
    owner:
        (L,) the row of each label.
    certainty:
        The limits.

    Returns
    -------
    (L,) float32 and (L,) bool.

    Raises
    ------
    UserError
        If a weight or confidence cannot be read, naming the row.
    """
    weights = _numbers(manifest, WEIGHTS, lists, owner)
    confidences = _numbers(manifest, CONFIDENCES, lists, owner)
    # NaN = not named, and a comparison with NaN is false.
    sure = ~(weights < certainty.min_weight) & ~(confidences < certainty.min_confidence)
    return np.nan_to_num(weights, nan=1.0).astype(np.float32), sure


def _numbers(manifest: Manifest, column: str, lists: pa.ListArray, owner: np.ndarray) -> np.ndarray:
    numbers = np.full(len(owner), np.nan)
    if column not in manifest.table.column_names:
        return numbers
    starts = np.searchsorted(owner, np.arange(len(manifest)))
    for row, text in enumerate(manifest.table[column].to_pylist()):
        if text is None or text == "":
            continue
        try:
            given = json.loads(text)
            for place, label in enumerate(lists[row].as_py()):
                if label in given:
                    numbers[starts[row] + place] = float(given[label])
        except (ValueError, TypeError) as error:
            raise UserError(
                f"The column '{column}' of '{manifest.table['image'][row].as_py()}' (row {row}) "
                f"cannot be read: {str(text)[:60]!r}.",
                'Write a JSON object such as {"eczema": 0.7, "psoriasis": 0.3}, or nothing.',
            ) from error
    return numbers
