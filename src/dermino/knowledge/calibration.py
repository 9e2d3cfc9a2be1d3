"""Where to merge: a threshold for any text encoder, from pairs whose answer is known."""

from __future__ import annotations

import numpy as np

from dermino.errors import UserError
from dermino.knowledge.contrasts import contrast
from dermino.knowledge.normalisation import normalise
from dermino.knowledge.tables import read_table
from dermino.knowledge.text_encoders import TextEncoder

PRECISION = 0.9


def calibrate_threshold(encoder: TextEncoder, precision: float = PRECISION) -> float:
    """Return the lowest cosine from which on merging is right often enough.

    Cosines of different encoders lie on different scales, so no one threshold serves them all. The
    pairs of ``calibration.json`` are synonyms and near misses; those that normalisation or the
    contrasts already decide are left out.

    Parameters
    ----------
    encoder:
        Any text encoder.
    precision:
        The share of synonyms among the pairs above the threshold, there and at every higher one.

    Raises
    ------
    UserError
        If no threshold reaches the precision.
    """
    synonyms, misses = (_cosines(encoder, kind) for kind in ("same", "different"))
    threshold = None
    for candidate in np.arange(99, 49, -1) / 100:
        merged, wrong = int((synonyms >= candidate).sum()), int((misses >= candidate).sum())
        if wrong > (1 - precision) * (merged + wrong) + 1e-9:
            break
        threshold = float(candidate)
    if threshold is None:
        raise UserError(
            f"The text encoder '{encoder.name}' does not tell synonyms from near misses.",
            "Use another one, or give --threshold yourself.",
        )
    return threshold


def _cosines(encoder: TextEncoder, kind: str) -> np.ndarray:
    named = read_table("calibration")[kind]
    pairs = [tuple(normalise(name).name for name in pair) for pair in named]
    pairs = [(one, two) for one, two in pairs if one != two and not contrast(one, two)]
    names = sorted({name for pair in pairs for name in pair})
    place = {name: number for number, name in enumerate(names)}
    vectors = encoder.embed(names).astype(np.float64)
    first, second = (vectors[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    return np.einsum("nd,nd->n", first, second)
