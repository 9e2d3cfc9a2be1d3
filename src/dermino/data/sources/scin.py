"""SCIN: photographs given by web users, with dermatologists' weighted differential diagnoses."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, get_args

import pandas as pd

from dermino.data.columns import require_columns, typed
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table
from dermino.errors import unknown

SkinType = Literal["self-reported", "dermatologists"]
_WEIGHTS = "weighted_skin_condition_label"
_NAMES = "dermatologist_skin_condition_on_label_name"
_CONFIDENCES = "dermatologist_skin_condition_confidence"
_GRADABLE = "dermatologist_gradable_for_skin_condition_"
_BODY_PART = "body_parts_"
_SEXES = {"FEMALE": "female", "MALE": "male"}


@SOURCES.register("scin")
class Scin:
    """SCIN as its bucket holds it: two tables and up to three pictures of a case.

    All pictures of a case carry its labels, the conditions of the weighted differential.
    ``label_weights`` holds their weights and ``label_confidences`` the highest confidence (1 to
    5) that a dermatologist gave each, as JSON objects. A case is one concern of one person and
    becomes ``lesion_id``. Age is known in groups only (``age_group``); Monk skin tones and the
    publisher's other columns are kept.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="scin",
        title="Skin Condition Image Network",
        licence="SCIN Data Use License",
        citation="Ward et al. Creating an empirical dermatology dataset through crowdsourcing "
        "with web search advertisements. JAMA Netw. Open 7, e2446615 (2024).",
        url="https://github.com/google-research-datasets/scin",
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining",)
    layout: ClassVar[str] = "scin_cases.csv, scin_labels.csv and images/<number>.png at any depth"
    tells: ClassVar[tuple[str, ...]] = ("scin_cases.csv", "scin_labels.csv")
    expected_images: ClassVar[int | None] = 10_380

    def read(
        self, path: Path, skin_type: SkinType = "self-reported", keep_missing: bool = False
    ) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        skin_type:
            Whose Fitzpatrick type becomes ``skin_type``: the person's own, or the median of up to
            three dermatologists' (rounded down). The columns of both are kept.
        keep_missing:
            Keep rows whose image is absent.
        """
        if skin_type not in get_args(SkinType):
            raise unknown("value of skin_type", str(skin_type), get_args(SkinType))
        index = FileIndex(path)
        findings: list[Finding] = []
        cases_path, labels_path = index.one("scin_cases.csv"), index.one("scin_labels.csv")
        cases = read_text_table(cases_path, findings)
        labels = read_text_table(labels_path, findings)
        require_columns(cases, ("case_id", "image_1_path"), cases_path)
        require_columns(labels, ("case_id", _WEIGHTS), labels_path)
        labels = _with_differential(labels, labels_path, findings).drop_duplicates("case_id")
        vocabulary = sorted({name for names in labels["labels"] for name in names})
        frame = cases.join(labels.set_index("case_id"), on="case_id")
        frame = frame.where(frame.notna(), None)
        frame["labels"] = [names if isinstance(names, list) else [] for names in frame["labels"]]
        frame["lesion_id"] = frame["case_id"]
        frame["sex"] = _column(frame, "sex_at_birth").map(_SEXES)
        frame["site"] = _body_parts(frame)
        own = skin_type == "self-reported"
        types = _self_reported(frame) if own else _median_type(frame)
        frame["skin_type"] = typed(types, "skin_type", cases_path, findings)
        frame["modality"] = "clinical"
        return assemble(
            _one_row_per_image(frame, findings),
            index,
            replace(self.info, vocabulary=tuple(vocabulary)),
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def _with_differential(labels: pd.DataFrame, path: Path, findings: list[Finding]) -> pd.DataFrame:
    """Add labels, weights and confidences from the texts of Python dicts and lists."""
    weights = [_literal(text, {}, path, row, findings) for row, text in labels[_WEIGHTS].items()]
    names, confidences = (
        [_literal(text, [], path, row, findings) for row, text in _column(labels, column).items()]
        for column in (_NAMES, _CONFIDENCES)
    )
    grades = labels.filter(like=_GRADABLE)
    gradable = grades.apply(lambda grade: grade.str.contains("YES", na=False)).any(axis=1)
    unlabelled = sum(yes and not case for yes, case in zip(gradable, weights, strict=True))
    if unlabelled:
        problem = "cases are gradable but carry no label"
        findings.append(Finding("note", problem, f"{unlabelled:,}", str(path)))
    labels["labels"] = [[name for name, weight in case.items() if weight > 0] for case in weights]
    labels["label_weights"] = [_json(case) for case in weights]
    labels["label_confidences"] = [
        _json(_highest(given, sure)) for given, sure in zip(names, confidences, strict=True)
    ]
    return labels


def _literal(text: str | None, empty: Any, path: Path, row: object, findings: list[Finding]) -> Any:
    """Evaluate the text of a dict or list, of the type of ``empty``."""
    if not text:
        return empty
    try:
        value = ast.literal_eval(text)
        if isinstance(value, type(empty)):
            return value
    except (ValueError, SyntaxError):
        pass
    problem = "labels cannot be read and are left empty"
    number = int(str(row))
    findings.append(Finding("warning", problem, text[:200], str(path), number))
    return empty


def _highest(names: list[str], confidences: list[int]) -> dict[str, int]:
    highest: dict[str, int] = {}
    for name, confidence in zip(names, confidences, strict=False):
        highest[name] = max(confidence, highest.get(name, 0))
    return highest


def _json(values: Mapping[str, float]) -> str | None:
    return json.dumps(values, ensure_ascii=False) if values else None


def _self_reported(frame: pd.DataFrame) -> pd.Series:
    values = _column(frame, "fitzpatrick_skin_type")
    given = values.where(~values.str.startswith("NONE", na=True), None)
    return given.str.removeprefix("FST")


def _median_type(frame: pd.DataFrame) -> pd.Series:
    labels = frame.filter(like="dermatologist_fitzpatrick_skin_type_label_")
    types = labels.apply(lambda column: column.str.removeprefix("FST"))
    medians = types.apply(pd.to_numeric, errors="coerce").median(axis=1)
    return medians.map(lambda median: None if pd.isna(median) else str(int(median)))


def _body_parts(frame: pd.DataFrame) -> list[str | None]:
    parts = frame.filter(like=_BODY_PART)
    names = [str(name).removeprefix(_BODY_PART).replace("_", " ") for name in parts.columns]
    return [
        "; ".join(name for name, flag in zip(names, row, strict=True) if flag == "YES") or None
        for row in parts.itertuples(index=False)
    ]


def _one_row_per_image(frame: pd.DataFrame, findings: list[Finding]) -> pd.DataFrame:
    """Give each picture a row; of the cases that share one, a labelled case is kept."""
    columns = [f"image_{k}_{what}" for k in (1, 2, 3) for what in ("path", "shot_type")]
    cases = frame.drop(columns=columns, errors="ignore")
    parts = [
        cases.assign(
            image=_column(frame, f"image_{k}_path"),
            shot_type=_column(frame, f"image_{k}_shot_type"),
        )
        for k in (1, 2, 3)
    ]
    images = pd.concat(parts).sort_index(kind="stable")
    images = images[images["image"].notna()].reset_index(drop=True)
    # Only the name: some downloads keep the bucket's folder "dataset", others do not.
    images["image"] = [PurePosixPath(path).name for path in images["image"]]
    labelled_first = images.iloc[(images["labels"].map(len) == 0).argsort(kind="stable")]
    for name, cases_of in images.groupby("image")["case_id"]:
        if len(cases_of) > 1:
            detail = f"cases {', '.join(cases_of)}"
            findings.append(Finding("note", "image is named several times", detail, str(name)))
    return labelled_first.drop_duplicates("image").sort_index()


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of texts, empty where the table lacks it."""
    if name in frame.columns:
        return frame[name]
    return pd.Series([None] * len(frame), index=frame.index, dtype=object)
