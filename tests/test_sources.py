import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.data.source import SOURCES, Imported, import_source, recognise
from dermino.errors import UserError

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


def picture(path: Path, form: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), "salmon").save(
        path, form or Image.registered_extensions()[path.suffix.lower()]
    )
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def problems(imported: Imported) -> Counter[str]:
    return Counter(finding.problem for finding in imported.findings)


def labels(imported: Imported) -> dict[str, list[str]]:
    manifest = imported.manifest
    return dict(zip(manifest.column("image"), manifest.labels, strict=True))


def test_folder_unlabelled_nested_and_littered(tmp_path: Path) -> None:
    picture(tmp_path / "2023" / "a.JPG")
    picture(tmp_path / "b.png")
    text(tmp_path / "Thumbs.db", "x")
    text(tmp_path / "__MACOSX" / "._b.png", "x")
    text(tmp_path / "2023" / "._a.JPG", "x")
    text(tmp_path / "LICENSE.txt", "x")
    assert labels(import_source("folder", tmp_path)) == {"2023/a.JPG": [], "b.png": []}


def test_folder_with_splits_above_classes_unpacked_twice(tmp_path: Path) -> None:
    for place in ("train/nevus", "train/melanoma", "Validation/nevus/old", "test/melanoma"):
        picture(tmp_path / "data" / "data" / place / "1.jpg")
    imported = import_source("folder", tmp_path, name="ward")
    manifest = imported.manifest
    assert Counter(manifest.column("split")) == {"train": 2, "val": 1, "test": 1}
    assert labels(imported)["data/data/Validation/nevus/old/1.jpg"] == ["nevus"]
    assert manifest.sources["ward"].vocabulary == ("melanoma", "nevus")


def test_folder_pairs_masks_with_their_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "case_mask.jpg")
    picture(tmp_path / "images" / "x.jpg")
    picture(tmp_path / "masks" / "x_Segmentation.png")
    manifest = import_source("folder", tmp_path, classes="no").manifest
    assert manifest.column("image") == ["images/case_mask.jpg", "images/x.jpg"]
    assert manifest.column("mask") == [None, "masks/x_Segmentation.png"]


def test_numbered_folders_are_classes_only_on_request(tmp_path: Path) -> None:
    for part in ("imgs_part_1", "imgs_part_2"):
        picture(tmp_path / part / "x.jpg")
    assert not import_source("folder", tmp_path).manifest.labelled.any()
    assert import_source("folder", tmp_path, classes="yes").manifest.labelled.all()


def test_csv_keeps_the_good_rows_beside_the_bad_ones(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "sub/c.PNG", "melanoma/1.jpg"):
        picture(tmp_path / "photos" / name)
    content = (
        "\ufefffilename;diagnosis;patient;age;gender;fold;note\r\n"
        'a.jpg;nevus|naevus;007;41;F;train;"two\r\nlines; quoted"\r\n'
        "b.jpg;melanoma;008;old;unknown;validation;\r\n"
        "../secret.jpg;nevus;009;30;M;test;\r\n"
        "too;many;fields;in;this;row;of;the;table\r\n"
        ";nevus;010;30;M;test;\r\n"
        "sub\\c.png;;011;;m;test;\r\n"
        "nevus/1.jpg;nevus;012;30;M;test;\r\n"
    )
    table = text(tmp_path / "cases.csv", content)
    imported = import_source("csv", table, image_root=tmp_path / "photos", label_separator="|")
    manifest = imported.manifest
    assert labels(imported) == {
        "a.jpg": ["nevus", "naevus"],
        "b.jpg": ["melanoma"],
        "sub/c.PNG": [],
    }
    assert manifest.column("patient_id") == ["007", "008", "011"]
    assert manifest.column("age") == [41, None, None]
    assert manifest.column("sex") == ["female", None, "male"]
    assert manifest.column("split") == ["train", "val", "test"]
    assert manifest.column("note")[0] == "two\r\nlines; quoted"
    rows = {finding.problem: finding.row for finding in imported.findings}
    assert rows["value of 'age' cannot be used and is left empty"] == 2
    assert rows["image lies outside the root"] == 3
    assert rows["broken row"] == 4
    assert rows["row names no image"] == 5
    assert rows["column 'filename' is read as image"] is None
    missing = [found.path for found in imported.findings if found.problem == "image is missing"]
    assert missing == ["nevus/1.jpg"]


def test_csv_with_named_columns_masks_and_class_names(tmp_path: Path) -> None:
    picture(tmp_path / "x.jpg")
    picture(tmp_path / "masks" / "x.png")
    table = text(
        tmp_path / "t.tsv",
        "image\tphoto\ty\tseg\tdataset\n"
        "1\tx.jpg\t1\tmasks/x.png\tward\n2\tx.jpg\t0\tgone.png\tward\n",
    )
    names = text(tmp_path / "names.json", json.dumps(["benign", "malignant"]))
    imported = import_source(
        "csv", table, image_column="photo", label_column="y", mask_column="seg", class_names=names
    )
    assert imported.manifest.labels == [["malignant"], ["benign"]]
    assert imported.manifest.column("mask") == ["masks/x.png", None]
    assert imported.manifest.sources["t"].vocabulary == ("benign", "malignant")
    assert imported.manifest.column("image_as_given") == ["1", "2"]
    assert imported.manifest.column("dataset_as_given") == ["ward", "ward"]
    assert problems(imported)["mask is missing"] == 1


def test_panderm_csv_needs_no_option_but_the_root(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "ISIC_1.jpg")
    table = text(tmp_path / "ham.csv", "image,label,split\nISIC_1.jpg,3,test\n")
    # The original joins root and name as text, so its roots end in a slash; ours need not.
    manifest = import_source("csv", table, image_root=f"{tmp_path / 'images'}/").manifest
    assert manifest.labels == [["3"]]
    assert manifest.path(0).is_file()


def test_ham10000_from_dataverse(tmp_path: Path) -> None:
    root = tmp_path / "dataverse_files" / "dataverse_files"
    header = "lesion_id\timage_id\tdx\tdx_type\tage\tsex\tlocalization\tdataset"
    rows = [
        '"HAM_0000118"\t"ISIC_0027419"\t"bkl"\t"histo"\t80.0\t"male"\t"scalp"\t"vidir_modern"',
        "HAM_0000118\tISIC_0025030\tnv\tfollow_up\t\tunknown\tunknown\trosendahl",
        "HAM_0000119\tISIC_0025031\tmel\thisto\t50.0\tfemale\tback\trosendahl",
        "HAM_0000120\tISIC_0025032\tnaevus\thisto\t50.0\tfemale\tback\trosendahl",
    ]
    text(root / "HAM10000_metadata", "\n".join([header, *rows]))
    picture(root / "ham10000_images_part_1" / "ISIC_0027419.jpg")
    picture(root / "HAM10000_images_part_2" / "ISIC_0025030.JPG")
    picture(root / "HAM10000_images_part_2" / "ISIC_0025032.jpg")
    picture(root / "segmentations" / "ISIC_0027419_Segmentation.png")
    imported = import_source("ham10000", tmp_path)
    manifest = imported.manifest
    assert manifest.labels == [["benign keratosis-like lesion"], ["melanocytic nevus"], []]
    assert manifest.column("centre") == ["vidir_modern", "rosendahl", "rosendahl"]
    assert manifest.column("dataset") == ["ham10000"] * 3
    assert manifest.column("sex") == ["male", None, "female"]
    assert manifest.column("site") == ["scalp", None, "back"]
    assert [bool(mask) for mask in manifest.column("mask")] == [True, False, False]
    expected = {"image is missing": 1, "unknown code in 'dx'": 1, "number of images differs": 1}
    assert problems(imported) == expected | {"mask is missing": 2}
    text(
        root / "ISIC2018_Task3_Test_GroundTruth.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset\n"
        "HAMTEST_0000000,ISIC_0034524,nv,follow_up,40.0,female,back,vidir_molemax\n",
    )
    picture(root / "ISIC2018_Task3_Test_Images" / "ISIC_0034524.jpg")
    assert recognise(tmp_path) == "ham10000"
    tested = import_source("ham10000", tmp_path, official_test=True).manifest
    assert tested.column("split") == ["train", "train", "train", "test"]
    assert tested.labels[3] == ["melanocytic nevus"]


def test_isic2017_classes_masks_and_splits(tmp_path: Path) -> None:
    train, test = tmp_path / "ISIC-2017_Training_Data", tmp_path / "ISIC-2017_Test_v2_Data"
    for name in ("ISIC_0000000", "ISIC_0000001", "ISIC_0000002"):
        picture(train / train.name / f"{name}.jpg")
        picture(train / train.name / f"{name}_superpixels.png")
        picture(tmp_path / "ISIC-2017_Training_Part1_GroundTruth" / f"{name}_segmentation.png")
    picture(test / "ISIC_0012086.jpg")
    text(
        train / "ISIC-2017_Training_Data_metadata.csv",
        "image_id,age_approximate,sex\nISIC_0000000,55,female\nISIC_0000001,unknown,unknown\n",
    )
    text(
        tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv",
        "image_id,melanoma,seborrheic_keratosis\n"
        "ISIC_0000000,0.0,0.0\nISIC_0000001,1.0,0.0\nISIC_0000002,0.0,1.0\n",
    )
    manifest = import_source("isic2017", tmp_path).manifest
    assert manifest.labels == [["nevus"], ["melanoma"], ["seborrheic keratosis"], []]
    assert manifest.column("split") == ["train", "train", "train", "test"]
    assert manifest.column("age") == [55, None, None, None]
    assert all(mask.endswith("_segmentation.png") for mask in manifest.column("mask")[:3])


PAD_HEADER = (
    "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,"
    "skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,"
    "diameter_1,diameter_2,diagnostic,itch,grew,hurt,changed,bleed,elevation,img_id,biopsed\n"
)


def test_pad_ufes_20_with_rows_without_history_or_image(tmp_path: Path) -> None:
    text(
        tmp_path / "metadata.csv",
        PAD_HEADER + "PAT_1516,1765,,,,,8,,,,,,,,ARM,,,NEV,False,False,False,False,False,False,"
        "PAT_1516_1765_530.png,False\n"
        "PAT_46,881,False,False,POMERANIA,POMERANIA,55,False,FEMALE,True,True,True,True,3.0,NECK,"
        "6.0,5.0,BCC,True,True,UNK,True,True,True,PAT_46_881_939.png,True\n"
        "PAT_47,882,,,,,40,,,,,,,,FACE,,,ACK,True,True,True,True,True,True,PAT_47_882_1.png,True\n",
    )
    picture(tmp_path / "images" / "imgs_part_1" / "imgs_part_1" / "PAT_1516_1765_530.png")
    picture(tmp_path / "imgs_part_2" / "PAT_46_881_939.PNG")
    imported = import_source("pad-ufes-20", tmp_path)
    manifest = imported.manifest
    assert manifest.labels == [["nevus"], ["basal cell carcinoma"]]
    assert manifest.column("skin_type") == [None, 3]
    assert manifest.column("sex") == [None, "female"]
    assert manifest.column("hurt") == ["False", "UNK"]
    assert problems(imported)["image is missing"] == 1
    shutil.make_archive(str(tmp_path / "imgs_part_2"), "zip", tmp_path / "imgs_part_2")
    shutil.rmtree(tmp_path / "imgs_part_2")
    packed = import_source("pad-ufes-20", tmp_path).manifest
    assert packed.column("image")[1] == "imgs_part_2.zip!/PAT_46_881_939.PNG"


def test_fitzpatrick17k_carries_three_levels(tmp_path: Path) -> None:
    table = text(
        tmp_path / "fitzpatrick17k.csv",
        "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,"
        "three_partition_label,qc,url,url_alphanum\n"
        "5e82,3,3,psoriasis,inflammatory,non-neoplastic,,http://a,b\n"
        "fa29,-1,1,malignant melanoma,malignant melanoma,malignant,,,\n",
    )
    picture(tmp_path / "finalfitz17k" / "fa29.jpg", form="PNG")
    imported = import_source("fitzpatrick17k", tmp_path)
    assert imported.manifest.labels == [["malignant melanoma", "malignant"]]
    assert imported.manifest.column("skin_type") == [None]
    assert "psoriasis" in imported.manifest.sources["fitzpatrick17k"].vocabulary
    complete = import_source("fitzpatrick17k", table, keep_missing=True).manifest
    assert complete.column("image") == ["5e82.jpg", "finalfitz17k/fa29.jpg"]
    assert complete.labels[0] == ["psoriasis", "inflammatory", "non-neoplastic"]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("ham1000", {}, "Did you mean 'ham10000'"),
        ("folder", {"clases": "yes"}, "Did you mean 'classes'"),
        ("folder", {"classes": "yess"}, "Did you mean 'yes'"),
        ("ham10000", {}, "Unpack images.zip first"),
        ("ph2", {}, "no PH2_dataset.txt or PH2_dataset.xlsx"),
        ("folder", {}, "no picture"),
    ],
)
def test_what_cannot_be_imported_is_explained(
    tmp_path: Path, source: str, options: dict[str, str], message: str
) -> None:
    text(tmp_path / "images.zip", "x")
    with pytest.raises(UserError, match=message):
        import_source(source, tmp_path, **options)


def test_csv_explains_a_wrong_column(tmp_path: Path) -> None:
    table = text(tmp_path / "t.csv", "file,diagnose\nx.jpg,nevus\n")
    with pytest.raises(UserError, match="Is it 'diagnose'"):
        import_source("csv", table, label_column="diagnosis")
    with pytest.raises(UserError, match="Did you mean 'label_column'"):
        import_source("csv", table, lable_column="diagnose")


def test_every_source_describes_itself() -> None:
    for name, source in SOURCES:
        assert source.info.name == name
        assert source.layout
        assert source.used_for
        assert source.tells or name in {"csv", "folder", "longitudinal"}


def test_import_command_writes_manifest_and_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "photos" / "a.jpg")
    table = text(tmp_path / "t.csv", "photo,label\na.jpg,nevus\nb.jpg,nevus\n")
    out = tmp_path / "out" / "m.parquet"
    arguments = ["data", "import", "csv", str(table), "--out", str(out)]
    settings = ["--set", "image_column=photo", f"image_root={tmp_path / 'photos'}"]
    with pytest.raises(SystemExit, match="0"):
        main(arguments + settings)
    assert len(Manifest.read(out)) == 1
    assert "b.jpg" in out.with_suffix(".findings.csv").read_text()
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--set", "image_column=foto"])
    assert "'photo'" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
@pytest.mark.parametrize(
    ("source", "folder", "images", "masks"),
    [
        ("ham10000", "HAM10000", 10015, 10015),
        ("isic2017", "ISIC2017", 2150, 2150),
        ("pad-ufes-20", "PAD-UFES-20", 815, 0),
    ],
)
def test_real_folders(source: str, folder: str, images: int, masks: int) -> None:
    manifest = import_source(source, REAL / folder).manifest
    assert len(manifest) == images
    assert manifest.labelled.all()
    assert sum(mask is not None for mask in manifest.column("mask")) == masks
