"""Patients and lesions that are on both sides of what should divide them."""

from __future__ import annotations

import pandas as pd

from dermino.audit.collection import Collection
from dermino.data.identity import group_names

_COUNTS = ("train", "val", "test", "no split", "pretraining")


def divided_groups(collection: Collection) -> pd.DataFrame:
    """Find patients and lesions in several splits, or in a test and a pretraining set.

    Returns
    -------
    pd.DataFrame
        One row each: ``column`` (``patient_id`` or ``lesion_id``), ``name``, the number of images
        in ``train``, ``val``, ``test``, ``no split`` and ``pretraining``, and ``problem``, worst
        first.
    """
    manifest = collection.manifest
    places = pd.Series(manifest.column("split")).replace("", "no split")
    places[collection.pretraining] = "pretraining"
    found = [pd.DataFrame(columns=["column", "name", *_COUNTS, "problem"])]
    for column in ("patient_id", "lesion_id"):
        names = pd.Series(group_names(manifest, column), dtype=object)
        counts = pd.crosstab(names, places).reindex(columns=list(_COUNTS), fill_value=0)
        held_back = counts["test"] + counts["val"]
        judged = held_back + counts["no split"]
        problem = pd.Series("", counts.index, dtype=object)
        problem[(counts[["train", "val", "test"]] > 0).sum(axis=1) > 1] = "in several splits"
        problem[(counts["pretraining"] > 0) & (judged > 0)] = "seen in pretraining"
        counts = counts.assign(column=column, problem=problem)[problem != ""]
        found.append(counts.rename_axis(index="name", columns=None).reset_index())
    divided = pd.concat(found, ignore_index=True)[list(found[0].columns)]
    return divided.sort_values(["problem", "column", "name"], ascending=False, ignore_index=True)
