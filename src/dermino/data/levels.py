"""Labels that a publisher gives in several columns, from coarse to fine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import pandas as pd


def observed_parents(frame: pd.DataFrame, columns: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs (label, broader label) that neighbouring columns give.

    A pair is left out where the finer label occurs under several broader ones, or where it is the
    broader one's own name.

    Parameters
    ----------
    frame:
        One row per image, labels or nothing in ``columns``.
    columns:
        From coarse to fine; those that the table lacks are passed over.
    """
    broader: dict[str, set[str]] = defaultdict(set)
    present = [name for name in columns if name in frame.columns]
    for coarse, fine in pairwise(present):
        named = frame[[coarse, fine]].dropna().drop_duplicates()
        for above, label in named.itertuples(index=False):
            if above and label and above != label:
                broader[label].add(above)
    return tuple(
        sorted((label, next(iter(above))) for label, above in broader.items() if len(above) == 1)
    )
