"""SkinCAP: images of Fitzpatrick17k and DDI with captions by dermatologists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, get_args

import pandas as pd

from dermino.data.columns import require_columns, typed_columns
from dermino.data.excel_table import read_excel_table
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table
from dermino.errors import UserError, unknown

Caption = Literal["caption_en", "caption_zh_polish_en"]
_SET_ASIDE = "Do not consider this image"


@SOURCES.register("skincap")
class SkinCap:
    """SkinCAP's CSV and XLSX, either or both, beside the folder ``skincap``.

    The two files hold two different English captions: the XLSX ``caption_en`` (a translation),
    which the authors of DermINO train on, and the CSV ``caption_zh_polish_en`` (polished, then
    translated). Both are kept as columns, one of them becomes ``caption``. ``ori_file_path`` names
    the image in Fitzpatrick17k or DDI: the key by which overlaps with them are found. The pictures
    in ``not_include`` are no part of the set.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="skincap",
        title="SkinCAP",
        licence="CC BY-NC-SA 4.0 and the agreement with KAUST",
        citation="Zhou et al. SkinCAP: a multi-modal dermatology dataset annotated with rich "
        "medical captions. arXiv 2405.18004 (2024).",
        url="https://huggingface.co/datasets/joshuachou/SkinCAP",
    )
    used_for: ClassVar[tuple[str, ...]] = ("captions",)
    layout: ClassVar[str] = "skincap_v240623.csv and/or skincap_v240715.xlsx, skincap/<id>.png"
    tells: ClassVar[tuple[str, ...]] = ("skincap_v*.csv | skincap_v*.xlsx",)
    expected_images: ClassVar[int | None] = 4_000

    def read(
        self,
        path: Path,
        caption: Caption | None = None,
        only_considered: bool = False,
        keep_missing: bool = False,
    ) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        caption:
            ``caption_en`` or ``caption_zh_polish_en``; by default the first that is there.
        only_considered:
            Leave out the images that the publisher marks "Do not consider this image".
        keep_missing:
            Keep rows whose image is absent.
        """
        if caption is not None and caption not in get_args(Caption):
            raise unknown("value of caption", caption, get_args(Caption))
        index = FileIndex(path)
        findings: list[Finding] = []
        metadata, frame = _read_tables(index, findings)
        chosen = caption or next((name for name in get_args(Caption) if name in frame), None)
        if chosen is None or chosen not in frame.columns:
            raise UserError(
                f"'{path}' has no column '{chosen or 'caption_en'}'.",
                "caption_en is in skincap_v*.xlsx, caption_zh_polish_en in skincap_v*.csv.",
            )
        findings.append(Finding("note", f"caption is the publisher's {chosen}"))
        frame["caption"] = frame[chosen]
        if only_considered and _SET_ASIDE in frame.columns:
            frame = frame[~frame[_SET_ASIDE].isin(["1", "1.0"])]
        frame["image"] = [_picture(name, index) for name in frame["id"]]
        frame["labels"] = [[name.strip()] if name else [] for name in frame["disease"]]
        if "fitzpatrick_scale" in frame.columns:
            frame["skin_type"] = frame["fitzpatrick_scale"]
        frame = typed_columns(frame, metadata, findings)
        frame["modality"] = "clinical"
        # The publisher names no other vocabulary than the values of the complete table.
        vocabulary = tuple(sorted({name for names in frame["labels"] for name in names}))
        return assemble(
            frame,
            index,
            replace(self.info, vocabulary=vocabulary),
            findings=findings,
            expected_images=None if only_considered else self.expected_images,
            keep_missing=keep_missing,
        )


def _read_tables(index: FileIndex, findings: list[Finding]) -> tuple[Path, pd.DataFrame]:
    """Return one of the tables' places and all columns of both, those of the CSV first."""
    frames = []
    place = index.one("skincap_v*.csv", "skincap_v*.xlsx")
    for file in index.find("skincap_v*.csv")[-1:] + index.find("skincap_v*.xlsx")[-1:]:
        path = index.root / file
        is_text = path.suffix.lower() == ".csv"
        frame = read_text_table(path, findings) if is_text else read_excel_table(path, header="id")
        require_columns(frame, ("id",), path)
        frame["id"] = frame["id"].str.removesuffix(".png")
        frames.append(frame.dropna(subset="id").drop_duplicates("id").set_index("id"))
    joined = frames[0] if len(frames) == 1 else frames[0].combine_first(frames[1])
    rows = dict.fromkeys(name for frame in frames for name in frame.index)
    columns = dict.fromkeys(column for frame in frames for column in frame.columns)
    joined = joined.reindex(index=list(rows), columns=list(columns)).reset_index(names="id")
    joined.index += 1
    require_columns(joined, ("disease",), place)
    return place, joined.where(joined.notna(), None)


def _picture(name: str, index: FileIndex) -> str:
    """Return where the picture lies; ``not_include`` may hold another one of that name."""
    files = [
        file
        for file in index.named(f"{name}.png")
        if "not_include" not in PurePosixPath(file.lower()).parts
    ]
    return files[0] if files else f"skincap/{name}.png"
