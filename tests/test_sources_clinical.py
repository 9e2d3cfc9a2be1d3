import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from openpyxl import Workbook
from PIL import Image

from dermino.data.manifest import Manifest
from dermino.data.source import Imported, import_source, recognise
from dermino.data.sources import sd198
from dermino.errors import UserError

METADATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "metadata"


def picture(path: Path, form: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = Image.registered_extensions()
    Image.new("RGB", (12, 8), "salmon").save(path, form or known[path.suffix.lower()])
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding=encoding, newline="")
    return path


def table(path: Path, *rows: dict[str, str]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    quoted = [[f'"{row.get(name, "")}"' if row.get(name) else "" for name in names] for row in rows]
    return text(path, "\n".join(",".join(line) for line in [names, *quoted]) + "\n")


def problems(imported: Imported) -> Counter[str]:
    return Counter(finding.problem for finding in imported.findings)


def by_name(manifest: Manifest, column: str) -> dict[str, object]:
    names = [Path(image).name for image in manifest.column("image")]
    return dict(zip(names, manifest.column(column), strict=True))


SCIN_CASES = (
    {
        "case_id": "-7838135921284561207",
        "age_group": "AGE_18_TO_29",
        "sex_at_birth": "FEMALE",
        "fitzpatrick_skin_type": "FST3",
        "body_parts_head_or_neck": "YES",
        "body_parts_arm": "YES",
        "image_1_path": "dataset/images/-9223.png",
        "image_2_path": "dataset/images/17.png",
        "image_3_path": "dataset/images/18.png",
        "image_1_shot_type": "CLOSE_UP",
        "image_2_shot_type": "AT_DISTANCE",
        "image_3_shot_type": "AT_AN_ANGLE",
    },
    {
        "case_id": "4503599627370497",
        "age_group": "AGE_UNKNOWN",
        "sex_at_birth": "OTHER_OR_UNSPECIFIED",
        "fitzpatrick_skin_type": "NONE_IDENTIFIED",
        "image_1_path": "dataset/images/19.png",
        "image_2_path": "dataset/images/18.png",
        "image_1_shot_type": "CLOSE_UP",
    },
    {
        "case_id": "4503599627370498",
        "sex_at_birth": "MALE",
        "image_1_path": "dataset/images/20.png",
    },
)
SCIN_LABELS = (
    {
        "case_id": "4503599627370497",
        "dermatologist_gradable_for_skin_condition_1": "DEFAULT_YES_IMAGE_QUALITY_SUFFICIENT",
        "dermatologist_skin_condition_on_label_name": "[]",
        "dermatologist_skin_condition_confidence": "[]",
        "weighted_skin_condition_label": "{}",
        "dermatologist_fitzpatrick_skin_type_label_1": "FST4",
        "dermatologist_fitzpatrick_skin_type_label_2": "FST5",
    },
    {
        "case_id": "-7838135921284561207",
        "dermatologist_gradable_for_skin_condition_1": "DEFAULT_YES_IMAGE_QUALITY_SUFFICIENT",
        "dermatologist_skin_condition_on_label_name": "['Eczema', 'Tinea', 'Eczema']",
        "dermatologist_skin_condition_confidence": "[2, 3, 4]",
        "weighted_skin_condition_label": "{'Eczema': 0.69, 'Tinea': 0.31, 'Scar': 0.0}",
        "monk_skin_tone_label_us": "4",
    },
    {
        "case_id": "4503599627370498",
        "dermatologist_gradable_for_skin_condition_1": "NO_IMAGE_QUALITY_INSUFFICIENT",
        "weighted_skin_condition_label": "{'Eczema': ",
    },
)


@pytest.mark.parametrize("prefix", ["dataset", "", "scin/dataset/dataset"])
def test_scin_gives_every_picture_its_cases_differential(tmp_path: Path, prefix: str) -> None:
    root = tmp_path / prefix
    table(root / "scin_cases.csv", *SCIN_CASES)
    table(root / "scin_labels.csv", *SCIN_LABELS)
    for number in ("-9223", "17", "18", "19"):
        picture(root / "images" / f"{number}.png")
    assert recognise(tmp_path) == "scin"
    imported = import_source("scin", tmp_path)
    manifest = imported.manifest
    eczema = ["Eczema", "Tinea"]
    assert by_name(manifest, "labels") == {
        "-9223.png": eczema,
        "17.png": eczema,
        "18.png": eczema,
        "19.png": [],
    }
    case = "-7838135921284561207"
    assert manifest.column("lesion_id") == [case, case, case, "4503599627370497"]
    assert json.loads(manifest.column("label_weights")[0])["Eczema"] == 0.69
    assert json.loads(manifest.column("label_confidences")[0]) == {"Eczema": 4, "Tinea": 3}
    assert manifest.column("skin_type") == [3, 3, 3, None]
    assert manifest.column("sex") == ["female"] * 3 + [None]
    assert manifest.column("site")[0] == "head or neck; arm"
    assert manifest.column("shot_type")[:2] == ["CLOSE_UP", "AT_DISTANCE"]
    assert manifest.column("monk_skin_tone_label_us")[0] == "4"
    assert manifest.sources["scin"].vocabulary == ("Eczema", "Tinea")
    found = problems(imported)
    assert found["image is named several times"] == 1
    assert found["cases are gradable but carry no label"] == 1
    assert found["labels cannot be read and are left empty"] == 1
    assert found["image is missing"] == 1
    rated = import_source("scin", tmp_path, skin_type="dermatologists").manifest
    assert rated.column("skin_type") == [None, None, None, 4]
    table(root / "scin_labels.csv", {**SCIN_LABELS[0], "case_id": "1"})
    assert import_source("scin", tmp_path).manifest.labels == [[]] * 4


def sd198_lists(root: Path) -> None:
    """Write the three lists with numbers whose order is not that of the names."""
    text(root / "classes.txt", "1 Becker's_Nevus\n2 Actinic_solar_Damage(Pigmentation)\n")
    text(root / "images.txt", "2 Becker's_Nevus/nevus 02.jpg\n1 Becker's_Nevus/01.jpg\n3 X/9.jpg\n")
    text(root / "image_class_labels.txt", "1 1\n2 2\n")


def test_sd198_with_its_lists_nested_and_with_blanks_in_names(tmp_path: Path) -> None:
    root = tmp_path / "SD-198" / "sd-198"
    sd198_lists(root)
    for name in ("01.jpg", "nevus 02.jpg"):
        picture(root / "images" / "Becker's_Nevus" / name)
    imported = import_source("auto", tmp_path)
    assert by_name(imported.manifest, "labels") == {
        "01.jpg": ["Becker's_Nevus"],
        "nevus 02.jpg": ["Actinic_solar_Damage(Pigmentation)"],
    }
    assert len(imported.manifest.sources["sd-198"].vocabulary) == 2
    assert problems(imported)["image has no class in the lists"] == 1


def test_sd198_with_folders_alone_and_a_fold(tmp_path: Path) -> None:
    folders = ("Beaus_Lines", "ACNE_VULGARIS", "Actinic_solar_Damage(Actinic_Keratosis)")
    for folder in folders:
        picture(tmp_path / "images" / folder / "a 1.JPG")
    picture(tmp_path / "images" / "cover.jpg")
    splits = tmp_path / "main_classes_split"
    text(splits / "train_0.txt", f"images/{folders[0]}/a 1.jpg 0\n{folders[2]}/a 1.jpg 2\n")
    text(splits / "val_0.txt", f"{folders[1]}/a 1.jpg 1\n")
    imported = import_source("sd-198", tmp_path, fold="0")
    labels = dict(zip(imported.manifest.column("split"), imported.manifest.labels, strict=True))
    assert labels["val"] == ["Acne_Vulgaris"]
    assert ["Beau's_Lines"] in imported.manifest.labels
    assert Counter(imported.manifest.column("split")) == {"train": 2, "val": 1}
    assert len(imported.manifest.sources["sd-198"].vocabulary) == 198 == len(set(sd198.CLASSES))
    assert problems(imported)["image lies in no class folder"] == 1
    with pytest.raises(UserError, match=r"no train_7\.txt"):
        import_source("sd-198", tmp_path, fold="7")


def test_dermnet_splits_groups_and_slugs(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "train" / "Eczema Photos" / "eczema-hand-12.jpg")
    picture(tmp_path / "a" / "train" / "Urticaria Hives" / "07urticaria033009 (2).jpg")
    picture(tmp_path / "a" / "Test" / "eczema photos" / "eczema-hand-12.jpg")
    picture(tmp_path / "a" / "Test" / "Lupus" / "1.jpg")
    imported = import_source("auto", tmp_path)
    manifest = imported.manifest
    rows = zip(manifest.column("split"), manifest.labels, manifest.column("slug"), strict=True)
    assert sorted(rows) == [
        ("test", ["Eczema Photos"], "eczema-hand"),
        ("train", ["Eczema Photos"], "eczema-hand"),
        ("train", ["Urticaria Hives"], "07urticaria"),
    ]
    assert len(manifest.sources["dermnet"].vocabulary) == 23
    assert problems(imported)["image lies in no class folder"] == 1


def test_lesion130k_reads_crops_with_or_without_their_list(tmp_path: Path) -> None:
    picture(tmp_path / "dataset" / "lesion" / "00001_lesion.png")
    picture(tmp_path / "dataset" / "normal" / "00001_normal.png")
    picture(tmp_path / "images" / "131253.jpg")
    picture(tmp_path / "logo2.png")
    alone = import_source("lesion130k", tmp_path).manifest
    assert not alone.labelled.any()
    assert alone.column("lesion_number") == ["00001", "00001", "131253"]
    text(
        tmp_path / "DATASET" / "LESION130k.csv",
        "## id class x y w h url\n"
        "00001 lesion 0.5 0.5 0.2 0.0 http://a.org/one two.jpg\n"
        "00001 normal 0.5 0.5 0.2 0.2 http://a.org/1.jpg\n"
        "131253 lesion 0.5 0.5 0.2 0.2 http://b.org/x.jpg\n"
        "00002 lesion 0.5 0.5 0.2 0.2 http://gone.org/\n"
        "00003 lesion half 0.5 0.2 0.2 http://gone.org/\n",
    )
    imported = import_source("auto", tmp_path)
    assert by_name(imported.manifest, "lesion_class") == {
        "00001_lesion.png": "lesion",
        "00001_normal.png": "normal",
        "131253.jpg": "lesion",
    }
    assert imported.manifest.column("url")[0] == "http://a.org/one two.jpg"
    absent = [f.detail for f in imported.findings if "have no picture" in f.problem]
    assert absent == ["1 of 4"]
    assert problems(imported)["line cannot be read"] == 1


@pytest.mark.parametrize(
    ("header", "flags", "folder"),
    [
        (",DDI_ID,DDI_file,skin_tone,malignant,disease", ("True", "FALSE"), "images"),
        (",DDI_ID,DDI_file,skin_tone,malignancy(malig=1),disease", ("1", "0"), "."),
    ],
)
def test_ddi_carries_disease_and_malignancy(
    tmp_path: Path, header: str, flags: tuple[str, str], folder: str
) -> None:
    text(
        tmp_path / "ddi" / "ddi_metadata.csv",
        f"{header}\n0,1,000001.png,56,{flags[0]},melanoma-in-situ\n"
        f"1,2,000002.png,12,{flags[1]},nevus\n2,3,000003.png,34,{flags[1]},scar\n"
        f"3,1,000001.png,56,{flags[1]},scar\n",
    )
    for number in (1, 2):
        picture(tmp_path / "ddi" / folder / f"{number:06}.PNG")
    imported = import_source("auto", tmp_path)
    manifest = imported.manifest
    assert manifest.labels == [["melanoma-in-situ", "malignant"], ["nevus", "benign"]]
    assert manifest.column("skin_tone") == ["56", "12"]
    assert manifest.column("skin_type_group") == ["V-VI", "I-II"]
    assert "scar" in manifest.sources["ddi"].vocabulary
    expected = {"image is missing": 1, "image has a second row, which is left out": 1}
    notes = {"number of images differs": 1, "recognised as ddi": 1}
    assert problems(imported) == expected | notes


@pytest.mark.skipif(not METADATA.is_dir(), reason="the publishers' tables are not here")
def test_real_ddi_table() -> None:
    manifest = import_source("ddi", METADATA, keep_missing=True).manifest
    assert Counter(names[-1] for names in manifest.labels) == {"benign": 483, "malignant": 170}
    groups = Counter(manifest.column("skin_type_group"))
    assert groups == {"I-II": 208, "III-IV": 241, "V-VI": 204}
    assert len(manifest.sources["ddi"].vocabulary) == 77 + 2


@pytest.mark.skipif(not METADATA.is_dir(), reason="the publishers' tables are not here")
def test_real_fitzpatrick17k_table() -> None:
    table = METADATA / "fitzpatrick17k.csv"
    manifest = import_source("fitzpatrick17k", table, keep_missing=True).manifest
    groups = Counter(manifest.column("three_partition_label"))
    assert groups == {"non-neoplastic": 12_080, "malignant": 2_263, "benign": 2_234}
    types = Counter(manifest.column("skin_type"))
    assert types == {1: 2_947, 2: 4_808, 3: 3_308, 4: 2_781, 5: 1_533, 6: 635, None: 565}
    # 114 labels, nine groups and three, of which "malignant melanoma" is a label and a group.
    assert len(manifest.sources["fitzpatrick17k"].vocabulary) == 114 + 9 + 3 - 1


def test_med_node_has_the_same_names_in_both_folders(tmp_path: Path) -> None:
    for folder in ("melanoma", "naevus"):
        picture(tmp_path / "complete_mednode_dataset" / folder / "1.jpg")
    text(tmp_path / "complete_mednode_dataset" / "naevus" / "Thumbs.db", "x")
    imported = import_source("auto", tmp_path)
    assert sorted(imported.manifest.labels) == [["melanoma"], ["naevus"]]
    assert problems(imported)["several files of one name"] == 0
    with pytest.raises(UserError, match="called melanoma, naevus"):
        import_source("med-node", tmp_path / "complete_mednode_dataset" / "naevus")


PH2_TEXT = (
    "|| Name   | Histological Diagnosis | Clinical Diagnosis | Asymmetry | ... ||\r\n"
    "|| IMD002 ||                         |      0         |     1     |"
    "     AT          |       A       |    A   |       P          |   A           |  3  4   ||\r\n"
    "|| IMD427 || Melanoma                ||     2         ||    2     ||"
    "    AT          ||      T       ||   P   ||      P          ||       P  ||  2 3 6\r\n"
    "|| IMD999 ||  0 ||\r\n"
    "Colors: 1 - White; 2 - Red\r\nLegend of IMD names: 3 digits\r\n"
)
PH2_HEADER = (
    "Image Name",
    "Histological Diagnosis",
    "Common Nevus",
    "Atypical Nevus",
    "Melanoma",
    "Asymmetry\n(0/1/2)",
    "Pigment Network\n(AT/T)",
    "Dots/Globules\n(A/AT/T)",
    "Streaks\n(A/P)",
    "Regression Areas\n(A/P)",
    "Blue-Whitish Veil\n(A/P)",
    "White",
    "Red",
    "Light-Brown",
    "Dark-Brown",
    "Blue-Gray",
    "Black",
)


def ph2_workbook(path: Path, rows_above: int) -> None:
    nobody = [None] * 3
    book = Workbook()
    sheet = book.active
    sheet.title = "Folha1"
    for _ in range(rows_above):
        sheet.append(["Legend", 1])
    sheet.append(PH2_HEADER)
    first = ["X", None, None, 1, "AT", "A", "A", "P", "A", None, None, "X", "X", None, None]
    second = ["X", 2, "AT", "T", "P", "P", "P", None, "X", "X", *nobody[:2], "X"]
    sheet.append(["IMD002", None, *first])
    sheet.append(["IMD427", "Melanoma", None, None, *second])
    book.save(path)


@pytest.mark.parametrize("rows_above", [None, 12, 0])
def test_ph2_from_text_and_workbook_alike(tmp_path: Path, rows_above: int | None) -> None:
    root = tmp_path / "PH2Dataset"
    for name in ("IMD002", "IMD427"):
        place = root / "PH2 Dataset images" / name
        picture(place / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        picture(place / f"{name}_lesion" / f"{name}_lesion.bmp")
        picture(place / f"{name}_roi" / f"{name}_R1_Label1.bmp")
    text(root / "Readme.txt", "Mendonça", encoding="latin-1")
    if rows_above is None:
        text(root / "PH2_dataset.txt", PH2_TEXT)
    else:
        ph2_workbook(root / "PH2_dataset.xlsx", rows_above)
    imported = import_source("auto", tmp_path)
    manifest = imported.manifest
    assert manifest.labels == [["common nevus"], ["melanoma"]]
    assert [Path(mask).name for mask in manifest.column("mask")] == [
        "IMD002_lesion.bmp",
        "IMD427_lesion.bmp",
    ]
    expected = {
        "histological_diagnosis": [None, "Melanoma"],
        "clinical_diagnosis": ["0", "2"],
        "asymmetry": ["1", "2"],
        "pigment_network": ["AT", "AT"],
        "dots_globules": ["A", "T"],
        "streaks": ["A", "P"],
        "regression_areas": ["P", "P"],
        "blue_whitish_veil": ["A", "P"],
        "colors": ["light-brown, dark-brown", "red, light-brown, black"],
    }
    assert {name: manifest.column(name) for name in expected} == expected
    assert problems(imported)["broken row"] == (rows_above is None)


def mednode(root: Path) -> None:
    picture(root / "melanoma" / "1.jpg")
    picture(root / "naevus" / "1.jpg")


def sd198_in_lists(root: Path) -> None:
    sd198_lists(root)
    picture(root / "images" / "Becker's_Nevus" / "01.jpg")
    picture(root / "images" / "Becker's_Nevus" / "nevus 02.jpg")


def ph2(root: Path) -> None:
    text(root / "PH2_dataset.txt", PH2_TEXT)
    picture(root / "IMD002_Dermoscopic_Image" / "IMD002.bmp")
    picture(root / "IMD427_Dermoscopic_Image" / "IMD427.bmp")


def lesion130k(root: Path) -> None:
    text(root / "LESION130k.csv", "00001 lesion 0.5 0.5 0.2 0.2 http://a.org/1.jpg\n")
    picture(root / "dataset" / "lesion" / "00001_lesion.png")
    picture(root / "dataset" / "lesion" / "00002_lesion.png")


def scin(root: Path) -> None:
    table(root / "scin_cases.csv", *SCIN_CASES)
    table(root / "scin_labels.csv", *SCIN_LABELS)
    picture(root / "images" / "17.png")
    picture(root / "images" / "19.png")


@pytest.mark.parametrize("build", [mednode, sd198_in_lists, ph2, lesion130k, scin])
def test_archives_are_read_in_place(tmp_path: Path, build: Callable[[Path], None]) -> None:
    build(tmp_path / "SD-198")
    loose = import_source("auto", tmp_path / "SD-198").manifest
    (tmp_path / "zipped").mkdir()
    shutil.make_archive(str(tmp_path / "zipped" / "sd-198"), "zip", tmp_path / "SD-198")
    packed = import_source("auto", tmp_path / "zipped").manifest
    assert len(packed) == 2
    assert by_name(packed, "labels") == by_name(loose, "labels")
    assert all("sd-198.zip!/" in image for image in packed.column("image"))
