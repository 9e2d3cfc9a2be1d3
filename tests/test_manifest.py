import datetime
from pathlib import Path

import pandas as pd
import pytest

from dermino.data.manifest import Manifest, read_manifests
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError


def manifest(root: Path, dataset: str = "clinic", **columns: object) -> Manifest:
    frame = pd.DataFrame({"image": ["a.jpg", "b/c.jpg"], "dataset": dataset} | columns)
    info = SourceInfo(dataset, licence="CC0-1.0", vocabulary=("nevus", "melanoma; in situ"))
    return Manifest.from_frame(frame, root, [info])


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_round_trip_keeps_values_types_sources_and_root(tmp_path: Path, suffix: str) -> None:
    original = manifest(
        tmp_path / "images",
        labels=[["nevus", "melanoma; in situ"], []],
        split=["train", ""],
        patient_id=["007", None],
        age=[41.5, None],
        skin_type=[6, None],
        date=[datetime.date(2024, 2, 29), None],
        event=[True, None],
        camera=["x", "a\nb"],
    )
    path = tmp_path / f"manifest{suffix}"
    original.write(path)
    read = Manifest.read(path)
    assert read.root == tmp_path / "images"
    assert read.sources == original.sources
    assert read.table.select(original.table.column_names).equals(original.table)


def test_a_manifest_can_be_moved_with_its_images(tmp_path: Path) -> None:
    manifest(tmp_path / "here" / "images").write(tmp_path / "here" / "m.parquet")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Manifest.read(tmp_path / "there" / "m.parquet")
    assert moved.path(1) == tmp_path / "there" / "images" / "b" / "c.jpg"


def test_panderm_tables_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "hiba.csv"
    path.write_text("image,binary_label,split\nISIC_1.jpg,0,train\nISIC_2.jpg,1,val\n")
    read = Manifest.read(path)
    assert read.labels == [["0"], ["1"]]
    assert read.column("split") == ["train", "val"]
    assert read.column("dataset") == ["hiba", "hiba"]


def test_manifests_of_several_roots_are_joined(tmp_path: Path) -> None:
    manifest(tmp_path / "a", mask=["m.png", None]).write(tmp_path / "1.parquet")
    manifest(tmp_path / "b" / "c", "ward", age=[1, 2]).write(tmp_path / "2.parquet")
    joined = read_manifests([tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert joined.root == tmp_path
    assert joined.column("image") == ["a/a.jpg", "a/b/c.jpg", "b/c/a.jpg", "b/c/b/c.jpg"]
    assert joined.column("mask") == ["a/m.png", None, None, None]
    assert joined.column("age") == [None, None, 1, 2]
    assert set(joined.sources) == {"clinic", "ward"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": ["train", "dev"]}, r"Row 2, column 'split': 'dev' is not allowed"),
        ({"skin_type": [1, 7]}, r"Row 2, column 'skin_type': 7 is too large"),
        ({"age": [-3.0, 4.0]}, r"Row 1, column 'age': -3.0 is too small"),
        ({"image": ["a.jpg", "../b.jpg"]}, r"Row 2, column 'image': '../b.jpg' leaves the root"),
        ({"image": ["/a.jpg", "b.jpg"]}, r"Row 1, column 'image': '/a.jpg' leaves the root"),
        ({"mask": [None, "x/../../m.png"]}, r"Row 2, column 'mask'.*leaves the root"),
        ({"image": [None, "b.jpg"]}, r"Row 1, column 'image': None is empty"),
        ({"image": ["a.jpg", ""]}, r"Row 2, column 'image': '' is empty"),
        (
            {"labels": [[], ["nevus", None]]},
            r"Row 2, column 'labels': \['nevus', None\] holds an empty name",
        ),
    ],
)
def test_a_bad_value_is_named_with_its_row(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        manifest(tmp_path, **columns)


def test_files_that_are_no_manifest_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        Manifest.read(tmp_path)
    (tmp_path / "m.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"m\.parquet' is not a readable Parquet file"):
        Manifest.read(tmp_path / "m.parquet")
    (tmp_path / "t.csv").write_text("image_path,label\na.jpg,nevus\n")
    with pytest.raises(UserError, match=r"(?s)no column 'image'.*'image_path'"):
        Manifest.read(tmp_path / "t.csv")
    (tmp_path / "n.csv").write_text("image,age\na.jpg,40\nb.jpg,forty\n")
    with pytest.raises(UserError, match="row 2, column 'age': 'forty'"):
        Manifest.read(tmp_path / "n.csv")
    (tmp_path / "n.csv").write_text("image,label\na.jpg,nevus\nb.jpg\n")
    with pytest.raises(UserError, match="Row #3: Expected 2 columns"):
        Manifest.read(tmp_path / "n.csv")
    (tmp_path / "n.csv").write_bytes("image,label\na.jpg,nævus\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF"):
        Manifest.read(tmp_path / "n.csv")


@pytest.mark.parametrize("stored", ["{", "[1]", '{"version": 2}', '{"sources": {"a": {"new": 1}}}'])
def test_a_damaged_or_later_description_is_refused(tmp_path: Path, stored: str) -> None:
    manifest(tmp_path).write(tmp_path / "m.csv")
    (tmp_path / "m.sources.json").write_text(stored)
    with pytest.raises(UserError, match=r"m\.sources\.json' describes"):
        Manifest.read(tmp_path / "m.csv")


def test_columns_that_do_not_fit_one_another_are_named(tmp_path: Path) -> None:
    different = [manifest(tmp_path, scanner=values) for values in ([1, 2], ["a", "b"])]
    with pytest.raises(UserError, match="scanner"):
        Manifest.join(different)
