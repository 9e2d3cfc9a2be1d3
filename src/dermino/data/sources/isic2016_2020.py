"""ISIC 2016 to 2020 together, without their duplicates: DermINO's pretraining pool."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dermino.data.challenge import Challenge
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.isic_duplicates import read_duplicate_lists, without_duplicates
from dermino.data.manifest import Manifest
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.sources.isic2016 import Isic2016
from dermino.data.sources.isic2017 import Isic2017
from dermino.data.sources.isic2018 import Isic2018
from dermino.data.sources.isic2019 import Isic2019
from dermino.data.sources.isic2020 import Isic2020
from dermino.errors import UserError

YEARS: dict[str, type[Challenge]] = {
    "2016": Isic2016,
    "2017": Isic2017,
    "2018": Isic2018,
    "2019": Isic2019,
    "2020": Isic2020,
}


@SOURCES.register("isic2016-2020")
class Isic2016To2020:
    """The training images of five challenges, each year's archives below one folder.

    Of images that occur twice the newest is kept, and none that is in a test set of 2016 or 2017:
    71,372 images less 14,310 are 57,062. The images of 2018 (HAM10000) all come from 2019's
    folder. Each year stays a dataset with its own vocabulary, so that no diagnosis of one year
    counts as absent in another.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2016-2020",
        title="ISIC 2016 to 2020 without duplicates",
        licence="CC0-1.0 (2016, 2017), CC BY-NC 4.0 (2018 to 2020)",
        citation="Cassidy et al. Analysis of the ISIC image datasets: usage, benchmarks and "
        "recommendations. Medical Image Analysis 75, 102305 (2022).",
        url="https://github.com/mmu-dermatology-research/isic_duplicate_removal_strategy",
        vocabulary=tuple(
            dict.fromkeys(name for year in YEARS.values() for name in year.info.vocabulary)
        ),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining",)
    layout: ClassVar[str] = (
        "the archives of isic2016, isic2017, isic2018, isic2019 and isic2020, and the twelve "
        "duplicate lists (duplicate_lists=FOLDER if they lie elsewhere)"
    )
    tells: ClassVar[tuple[str, ...]] = tuple(tell for year in YEARS.values() for tell in year.tells)
    expected_images: ClassVar[int | None] = 57_062

    def read(
        self,
        path: Path,
        duplicate_lists: str | Path | None = None,
        keep_missing: bool = False,
    ) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder that holds the years' folders.
        duplicate_lists:
            The folder of the duplicate lists; ``path`` by default.
        keep_missing:
            Keep rows whose image is absent.
        """
        index = FileIndex(path)
        findings: list[Finding] = []
        named = read_duplicate_lists(duplicate_lists or path, findings)
        manifests = []
        for year, challenge in YEARS.items():
            source = challenge()
            training = [part for part in source.parts if part.split == "train"]
            frame = source.table(index, training, findings)
            if frame.empty:
                findings.append(Finding("warning", "year is missing", f"ISIC {year}"))
                continue
            frame = without_duplicates(frame, year, named.get(year, ()), findings)
            if not frame.empty:
                imported = assemble(frame, index, source.info, keep_missing=keep_missing)
                manifests.append(imported.manifest)
                findings += imported.findings
        if not manifests:
            raise UserError(
                f"There is no year of ISIC in '{path}' or below it.",
                f"Its layout is: {self.layout}.",
            )
        manifest = Manifest.join(manifests)
        if len(manifest) != self.expected_images:
            counts = f"{len(manifest):,} here, {self.expected_images:,} published"
            findings.append(Finding("note", "number of images differs", counts))
        return Imported(manifest, findings)
