"""Serial pictures of lesions, and patients followed up: your own table with dates or outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from dermino.data.findings import Finding
from dermino.data.manifest import Manifest
from dermino.data.source import SOURCES, Imported
from dermino.data.source_info import SourceInfo
from dermino.data.sources.csv import Csv
from dermino.errors import UserError

_COLUMNS = ("image", "patient_id", "lesion_id", "split", "date", "time", "event")


@SOURCES.register("longitudinal")
class Longitudinal:
    """A CSV file with ``patient_id``, ``lesion_id``, ``date`` and, for survival, ``time, event``.

    Rows are put in the order of patients, lesions and dates. Two columns are added: ``visit``
    counts a lesion's dates from 0, ``days`` is the time since its first one. Reported are images
    without a date, lesions of two patients, lesions on both sides of a split, outcomes of which
    half is missing, and those that differ among the images of one lesion.
    """

    info: ClassVar[SourceInfo] = SourceInfo(name="longitudinal", title="Your own follow-up")
    used_for: ClassVar[tuple[str, ...]] = ("change", "prognosis")
    layout: ClassVar[str] = (
        "a CSV file with image, patient_id, lesion_id and date, or time and event; images below "
        "image_root"
    )
    tells: ClassVar[tuple[str, ...]] = ()
    expected_images: ClassVar[int | None] = None

    def read(self, path: Path, **options: Any) -> Imported:
        """Read the table at ``path``.

        Parameters
        ----------
        path:
            The file.
        options:
            Those of the source ``csv``: ``image_root``, ``date_format`` for dates that are not
            written as 2021-12-31, ``event_values`` for codes other than 1 and 0, and the names of
            columns, such as ``lesion_column``, ``date_column``, ``time_column``, ``event_column``.
        """
        imported = Csv().read(path, **options)
        findings = list(imported.findings)
        return Imported(in_order(imported.manifest, path, findings), findings)


def in_order(manifest: Manifest, path: Path, findings: list[Finding]) -> Manifest:
    """Order the images of lesions by date, and check what follow-up needs.

    Parameters
    ----------
    manifest:
        With lesions or patients, and dates, or times and events.
    path:
        The table, for the findings.
    findings:
        Where what does not fit is reported.

    Returns
    -------
    Manifest
        The rows in the order of patients, lesions and dates, with ``visit`` and ``days`` where
        there are dates.

    Raises
    ------
    UserError
        If there are neither dates nor times with events, or nothing says what belongs together.
    """
    frame = pd.DataFrame({name: manifest.column(name) for name in _COLUMNS})
    followed = next((name for name in ("lesion_id", "patient_id") if frame[name].notna().any()), "")
    dated = bool(frame["date"].notna().any())
    survival = bool((frame["time"].notna() & frame["event"].notna()).any())
    if not followed:
        raise UserError(
            f"'{path}' names neither lesions nor patients.",
            "Fill in lesion_id or patient_id, or set lesion_column or patient_column.",
        )
    if not (dated or survival):
        raise UserError(
            f"'{path}' has neither a usable date nor a time with its event.",
            "Write dates as 2021-12-31 or set date_format; write events as 1 and 0 or set "
            "event_values.",
        )
    _check_groups(frame, followed, path, findings)
    if survival:
        _check_outcomes(frame, followed, path, findings)
    if not dated:
        return manifest
    remedy = "Write dates as 2021-12-31, or set date_format."
    problem = "image without a usable date, it has no place in the order"
    for image in frame["image"][frame["date"].isna()]:
        findings.append(Finding("warning", problem, path=str(image), remedy=remedy))
    frame["date"] = pd.to_datetime(frame["date"])
    order = frame.sort_values(["patient_id", "lesion_id", "date"], kind="stable").index.to_numpy()
    frame = frame.loc[order]
    groups = frame.groupby(followed)["date"]
    days_seen = groups.nunique()
    seen_once = len(days_seen[days_seen == 1])
    if seen_once:
        counts = f"{seen_once:,} of {groups.ngroups:,}"
        findings.append(Finding("note", "seen on one day only: no change can be learnt", counts))
    visit = groups.rank(method="dense") - 1
    days = (frame["date"] - groups.transform("min")).dt.days
    return manifest.select(order).with_columns(
        visit=_whole_numbers(visit), days=_whole_numbers(days)
    )


def _check_groups(frame: pd.DataFrame, followed: str, path: Path, findings: list[Finding]) -> None:
    """Report images of nothing, lesions of several patients, and those a split divides."""
    for image in frame["image"][frame[followed].isna()]:
        findings.append(Finding("warning", f"image without {followed}", path=str(image)))
    several = frame.groupby(followed)[["patient_id"]].nunique()["patient_id"]
    for name in several.index[several > 1]:
        remedy = "Give each lesion a name of its own."
        problem = "lesion belongs to several patients"
        findings.append(Finding("warning", problem, str(name), str(path), remedy=remedy))
    person = "patient_id" if frame["patient_id"].notna().any() else followed
    divided = frame[frame["split"] != ""].groupby(person)["split"].nunique()
    for name in divided.index[divided > 1]:
        remedy = "Make another split with: dermino data split MANIFEST"
        problem = f"{person} is on both sides of the split"
        findings.append(Finding("warning", problem, str(name), str(path), remedy=remedy))


def _check_outcomes(
    frame: pd.DataFrame, followed: str, path: Path, findings: list[Finding]
) -> None:
    """Report outcomes of which one half is missing, or that images of one lesion contradict."""
    for image in frame["image"][frame["time"].notna() != frame["event"].notna()]:
        problem = "time without event, or event without time"
        findings.append(Finding("warning", problem, path=str(image), remedy="Fill in both."))
    outcomes = frame.groupby(followed)[["time", "event"]].nunique().max(axis=1)
    for name in outcomes.index[outcomes > 1]:
        problem = f"images of one {followed} have different outcomes"
        remedy = "Give all of them the time from the first picture to the event or last contact."
        findings.append(Finding("warning", problem, str(name), str(path), remedy=remedy))


def _whole_numbers(values: pd.Series) -> np.ndarray:
    return np.array([None if pd.isna(value) else int(value) for value in values], dtype=object)
