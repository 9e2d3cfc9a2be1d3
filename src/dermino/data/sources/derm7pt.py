"""Derm7pt: a clinical and a dermoscopic picture of each case, with the seven-point checklist."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, typed_columns
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table
from dermino.errors import UserError

GROUPS = {
    "BCC": "basal cell carcinoma",
    "NEV": "nevus",
    "MEL": "melanoma",
    "SK": "seborrheic keratosis",
    "MISC": "miscellaneous",
}
DIAGNOSES = {
    "basal cell carcinoma": "BCC",
    "blue nevus": "NEV",
    "clark nevus": "NEV",
    "combined nevus": "NEV",
    "congenital nevus": "NEV",
    "dermal nevus": "NEV",
    "recurrent nevus": "NEV",
    "reed or spitz nevus": "NEV",
    "melanoma": "MEL",
    "melanoma (in situ)": "MEL",
    "melanoma (less than 0.76 mm)": "MEL",
    "melanoma (0.76 to 1.5 mm)": "MEL",
    "melanoma (more than 1.5 mm)": "MEL",
    "melanoma metastasis": "MEL",
    "seborrheic keratosis": "SK",
    "dermatofibroma": "MISC",
    "lentigo": "MISC",
    "melanosis": "MISC",
    "miscellaneous": "MISC",
    "vascular lesion": "MISC",
}
# Nine cases have no clinical picture and name the dermoscopic one twice: it must come first.
_MODALITIES = {"derm": "dermoscopic", "clinic": "clinical"}
_SPLITS = {"train": "train", "valid": "val", "test": "test"}


@SOURCES.register("derm7pt")
class Derm7pt:
    """``release_v0`` with both pictures of every case and the publisher's split.

    An image carries its diagnosis and its group of five, whose code is the column
    ``diagnosis_group``. The criteria of the checklist and all other columns are kept;
    ``lesion_id`` is the ``case_num`` that a case's two pictures share.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="derm7pt",
        title="Derm7pt",
        licence="academic research only, no redistribution",
        citation="Kawahara et al. Seven-point checklist and skin lesion classification using "
        "multitask multimodal neural nets. IEEE J Biomed Health Inform 23, 538-546 (2019).",
        url="https://derm.cs.sfu.ca",
        vocabulary=tuple(dict.fromkeys([*DIAGNOSES, *GROUPS.values()])),
        parents=tuple(
            (diagnosis, GROUPS[group])
            for diagnosis, group in DIAGNOSES.items()
            if diagnosis != GROUPS[group]
        ),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "meta/meta.csv, meta/{train,valid,test}_indexes.csv and images/"
    tells: ClassVar[tuple[str, ...]] = ("meta.csv: case_num, seven_point_score, clinic, derm",)
    expected_images: ClassVar[int | None] = 2_013

    def read(
        self, path: Path, official_split: bool | str = True, keep_missing: bool = False
    ) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        official_split:
            Write the publisher's split, which keeps a case's pictures together. False leaves
            ``split`` empty, for a split of your own (the paper's halves).
        keep_missing:
            Keep rows whose image is absent.
        """
        index = FileIndex(path)
        metadata = index.one("meta.csv")
        findings: list[Finding] = []
        cases = read_text_table(metadata, findings)
        require_columns(cases, ("case_num", "diagnosis", *_MODALITIES), metadata)
        cases = cases.rename(columns={"case_num": "lesion_id", "location": "site"})
        cases["diagnosis_group"] = cases["diagnosis"].map(DIAGNOSES)
        cases["labels"] = _labels(cases["diagnosis"], metadata, findings)
        cases = typed_columns(cases, metadata, findings)
        if official_split:
            cases["split"] = _official_split(cases.index, index, findings)
        pictures = [
            cases.assign(image=cases[column], modality=modality).drop(columns=[*_MODALITIES])
            for column, modality in _MODALITIES.items()
        ]
        frame = pd.concat(pictures).sort_index(kind="stable")
        repeated = frame["image"].str.lower().duplicated() & frame["image"].notna()
        if repeated.any():
            problem = "clinical picture is missing, its column repeats the dermoscopic one"
            findings += [
                Finding("note", problem, path=str(frame["image"].loc[row].iloc[0]), row=int(row))
                for row in frame.index[repeated]
            ]
        return assemble(
            frame[~repeated].reset_index(drop=True),
            index,
            self.info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def _labels(diagnoses: pd.Series, path: Path, findings: list[Finding]) -> list[list[str]]:
    """Return each case's diagnosis and the name of its group, once where they are the same."""
    labels: list[list[str]] = []
    for row, diagnosis in diagnoses.items():
        if diagnosis not in DIAGNOSES:
            problem = "unknown diagnosis, the case is kept unlabelled"
            number = int(str(row))
            findings.append(Finding("warning", problem, repr(diagnosis), str(path), number))
            labels.append([])
        else:
            labels.append(list(dict.fromkeys([diagnosis, GROUPS[DIAGNOSES[diagnosis]]])))
    return labels


def _official_split(rows: pd.Index, index: FileIndex, findings: list[Finding]) -> list[str]:
    """Return each case's split; the publisher's index files count rows of the table from 0."""
    splits: dict[int, str] = {}
    for name, split in _SPLITS.items():
        path = index.one(f"{name}_indexes.csv")
        table = read_text_table(path, findings)
        require_columns(table, ("indexes",), path)
        for row, place in table["indexes"].items():
            if place is None or not place.isdigit():
                raise UserError(f"{path}, row {row}: {place!r} is no row number.")
            splits[int(place) + 1] = split
    return [splits.get(row, "") for row in rows]
