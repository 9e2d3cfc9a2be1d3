"""ACNE04: photographs of acne graded by severity, with the number of lesions and five folds."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.reference import read
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError

SEVERITIES = ("mild acne", "moderate acne", "severe acne", "very severe acne")
_FOLDS = ("0", "1", "2", "3", "4")
_LINE = re.compile(r"(?P<image>\S+)\s+(?P<severity>[0-3])\s+(?P<lesions>\d+)")
_FIELDS = "A row is: file, severity 0 to 3, number of lesions."
_NAME = re.compile(r"levle(?P<severity>[0-3])_", re.IGNORECASE)


@SOURCES.register("acne04")
class Acne04:
    """The archive ``Classification`` of ACNE04; ``Detection`` may lie beside it and is not read.

    Severity (0 to 3) and the number of lesions are columns beside the label; ``fold`` is the one
    of the publisher's five whose test list holds the image. Several pictures of one person occur,
    the folds divide them, and no column names the person.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="acne04",
        title="ACNE04",
        licence="academic research only",
        citation="Wu et al. Joint acne image grading and counting via label distribution "
        "learning. ICCV 2019.",
        url="https://github.com/xpwu95/LDL",
        vocabulary=SEVERITIES,
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "NNEW_{trainval,test}_{0..4}.txt and JPEGImages/levle*.jpg"
    tells: ClassVar[tuple[str, ...]] = ("NNEW_test_?.txt", "levle?_*.jpg")
    expected_images: ClassVar[int | None] = 1_457

    def read(self, path: Path, fold: str | None = None, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        fold:
            0 to 4: write this fold of the publisher's into ``split``. Without it ``split`` stays
            empty, for a split of your own (the paper's halves).
        keep_missing:
            Keep rows whose image is absent.
        """
        if fold is not None and str(fold) not in _FOLDS:
            raise UserError(f"There is no fold '{fold}'.", f"The folds are {', '.join(_FOLDS)}.")
        index = FileIndex(path)
        lists = index.find("NNEW_test_?.txt", "NNEW_trainval_?.txt")
        index.one("NNEW_test_?.txt" if fold is None else f"NNEW_test_{fold}.txt")
        findings: list[Finding] = []
        frame = pd.DataFrame(_read_lists(index, lists, findings).values())
        if frame.empty:
            raise UserError(f"'{path}': {lists[0]} lists no image.", "Download the archive again.")
        if fold is not None:
            frame["split"] = ["test" if own == str(fold) else "train" for own in frame["fold"]]
        frame["labels"] = [[SEVERITIES[severity]] for severity in frame["severity"]]
        frame["modality"] = "clinical"
        folder = PurePosixPath(lists[0]).parent
        frame["image"] = [_beside(folder, name, index) for name in frame["image"]]
        return assemble(
            frame,
            index,
            self.info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def _read_lists(
    index: FileIndex, lists: list[str], findings: list[Finding]
) -> dict[str, dict[str, object]]:
    """Return one row for each listed image; the lists of different folds repeat one another."""
    rows: dict[str, dict[str, object]] = {}
    for file in lists:
        stem = PurePosixPath(file).stem.lower()
        lines = read(index.root / file).decode("utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            fields = _LINE.fullmatch(line.strip())
            if fields is None:
                if line.strip():
                    findings.append(Finding("error", "broken row", line, file, number, _FIELDS))
                continue
            image, severity = fields["image"], int(fields["severity"])
            named = _NAME.match(image)
            if image not in rows and named and int(named["severity"]) != severity:
                problem = "severity differs from the one in the file's name"
                findings.append(Finding("warning", problem, line, file, number))
            row = {"severity": severity, "lesion_count": int(fields["lesions"]), "fold": None}
            rows.setdefault(image, {"image": image, **row})
            if "test" in stem:
                rows[image]["fold"] = stem[-1]
    return rows


def _beside(folder: PurePosixPath, name: str, index: FileIndex) -> str:
    """Return the picture below the lists' folder: Detection may hold the same pictures again."""
    files = index.named(name)
    own = [file for file in files if PurePosixPath(file).is_relative_to(folder)]
    return own[0] if own else name
