"""The columns of a manifest: names, Arrow types and the values they may hold."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SPLITS = ("", "train", "val", "test")
MODALITIES = ("dermoscopic", "clinical", "tbp", "histology")
SEXES = ("female", "male", "other")


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, what it means, and its allowed values or range if limited."""

    type: pa.DataType
    meaning: str
    required: bool = False
    allowed: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


COLUMNS: dict[str, Column] = {
    "image": Column(
        pa.string(),
        "path relative to the manifest's root, archive.zip!/member, or URL",
        required=True,
    ),
    "dataset": Column(pa.string(), "which source the row comes from", required=True),
    "split": Column(pa.string(), "train, val, test or empty", required=True, allowed=SPLITS),
    "labels": Column(
        pa.list_(pa.string()), "the publisher's label names; empty = unlabelled", required=True
    ),
    "mask": Column(pa.string(), "path of the lesion mask, relative to the root"),
    "caption": Column(pa.string(), "a description in words"),
    "patient_id": Column(pa.string(), "patient, as the publisher names them"),
    "lesion_id": Column(pa.string(), "lesion, as the publisher names it"),
    "modality": Column(pa.string(), "how the picture was taken", allowed=MODALITIES),
    "skin_type": Column(pa.int8(), "Fitzpatrick skin type", minimum=1, maximum=6),
    "sex": Column(pa.string(), "female, male or other", allowed=SEXES),
    "age": Column(pa.float32(), "years", minimum=0, maximum=130),
    "site": Column(pa.string(), "where on the body"),
    "date": Column(pa.date32(), "day the picture was taken"),
    "time": Column(pa.float64(), "follow-up time, for survival", minimum=0),
    "event": Column(pa.bool_(), "whether the event was seen by `time`"),
}
