from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from dermino.data.recognition import is_recognised
from dermino.data.source import SOURCES, import_source, recognise
from dermino.data.sources.ham10000 import Ham10000
from dermino.errors import UserError

HAM_TABLE = (
    "lesion_id,image_id,dx,dx_type,age,sex,localization\nHAM_1,ISIC_1,nv,histo,80,male,ear\n"
)


def folder(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("tell", "found"),
    [
        ("HAM10000_metadata*", False),
        ("Cases.CSV", True),
        ("a/cases.csv", True),
        ("b/*", False),
        ("other.csv | cases.csv", True),
        ("*.csv: ID, country=*aires*", True),
        ("*.csv: id, country=Vienna", False),
        ("*.csv: id, age", False),
    ],
)
def test_a_tell_is_a_pattern_with_folders_columns_and_values(
    tmp_path: Path, tell: str, found: bool
) -> None:
    folder(tmp_path, x__a__cases_csv="id,Country\n1,Hospital of Buenos Aires\n", y_csv="")
    assert is_recognised((tell,), tmp_path, ["x/a/cases.csv", "y.csv"]) is found
    assert not is_recognised((tell, "gone.csv"), tmp_path, ["x/a/cases.csv", "y.csv"])


def test_auto_imports_what_it_recognises_and_says_so(tmp_path: Path) -> None:
    folder(tmp_path, HAM10000_metadata_csv=HAM_TABLE)
    Image.new("RGB", (8, 8)).save(tmp_path / "ISIC_1.jpg")
    imported = import_source("auto", tmp_path)
    assert imported.manifest.labels == [["melanocytic nevus"]]
    assert imported.findings[0].problem == "recognised as ham10000"


def test_auto_recognises_a_single_table(tmp_path: Path) -> None:
    folder(tmp_path, fitzpatrick17k_csv="md5hash,label\n", HAM10000_metadata_csv=HAM_TABLE)
    assert recognise(tmp_path / "fitzpatrick17k.csv") == "fitzpatrick17k"


def test_a_table_stands_for_the_folder_of_its_images(tmp_path: Path) -> None:
    folder(tmp_path, HAM10000_metadata_csv=HAM_TABLE, copy__HAM10000_metadata_csv="lesion_id\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "ISIC_1.jpg")
    for source in ("auto", "ham10000"):
        imported = import_source(source, tmp_path / "HAM10000_metadata.csv")
        assert imported.manifest.column("image") == ["ISIC_1.jpg"]
    with pytest.raises(UserError, match="is not a folder"):
        import_source("folder", tmp_path / "HAM10000_metadata.csv")
    with pytest.raises(UserError, match="There is no file or folder"):
        import_source("auto", tmp_path / "HAM.csv")


def test_among_tables_of_one_name_the_one_with_the_layouts_columns_is_read(tmp_path: Path) -> None:
    columns = "isic_id,attribution,copyright_license,diagnosis\n"
    folder(
        tmp_path,
        a__metadata_csv=f"{columns}ISIC_1,Hospital Italiano de Buenos Aires,CC-0,nevus\n",
        b__metadata_csv=f"{columns}ISIC_2,Memorial Sloan Kettering Cancer Center,CC-0,melanoma\n",
        c__metadata_csv="img_id,fitspatrick,diagnostic,patient_id,lesion_id\nISIC_3.png,,MEL,1,1\n",
    )
    for source, image in {"hiba": "ISIC_1", "mskcc": "ISIC_2", "pad-ufes-20": "ISIC_3"}.items():
        imported = import_source(source, tmp_path, keep_missing=True)
        assert [Path(name).stem for name in imported.manifest.column("image")] == [image]


def test_several_layouts_or_none_are_an_error_that_names_them(tmp_path: Path) -> None:
    folder(tmp_path, fitzpatrick17k_csv="md5hash,label\n", HAM10000_metadata_csv=HAM_TABLE)
    with pytest.raises(UserError, match="fitzpatrick17k, ham10000"):
        recognise(tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="not recognised"):
        recognise(folder(tmp_path / "other", cases_csv="id\n1\n"))


def test_an_archive_export_needs_no_column_but_the_images_names(tmp_path: Path) -> None:
    assert recognise(folder(tmp_path, metadata_csv="isic_id\nISIC_1\n")) == "isic-archive"


def test_the_more_particular_layout_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ours(Ham10000):
        info = replace(Ham10000.info, name="ours")
        tells: ClassVar[tuple[str, ...]] = (*Ham10000.tells, "ours.csv")

    SOURCES.names()
    monkeypatch.setitem(SOURCES._items, "ours", Ours)
    assert recognise(folder(tmp_path, HAM10000_metadata_csv=HAM_TABLE)) == "ham10000"
    assert recognise(folder(tmp_path, ours_csv="")) == "ours"
