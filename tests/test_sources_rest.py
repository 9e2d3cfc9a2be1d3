import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from dermino.cli.main import main
from dermino.data.catalogue import catalogue, describe_sources
from dermino.data.source import SOURCES, Imported, import_source, recognise
from dermino.data.template import EXAMPLE_IMAGE, templates, write_template
from dermino.errors import UserError
from dermino.evaluate.suite import prepare_tasks, read_suite

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), "salmon").save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def problems(imported: Imported) -> Counter[str]:
    return Counter(finding.problem for finding in imported.findings)


def acne04(root: Path) -> Path:
    graded = [("levle0_0.jpg", 0, 5), ("levle1_7.jpg", 1, 12), ("levle3_2.JPG", 3, 61)]
    lines = [f"{name}  {severity}\t{count}\r\n" for name, severity, count in graded]
    for fold, own in enumerate([[0], [1], [2], [], []]):
        rest = [line for place, line in enumerate(lines) if place not in own]
        text(root / "Classification" / f"NNEW_trainval_{fold}.txt", "".join(rest))
        tested = "".join(lines[place] for place in own)
        text(root / "Classification" / f"NNEW_test_{fold}.txt", tested)
    for name, *_ in graded:
        picture(root / "Classification" / "JPEGImages" / name.lower())
        picture(root / "Detection" / "VOC2007" / "JPEGImages" / name.lower())
    return root


def test_acne04_grades_counts_and_folds(tmp_path: Path) -> None:
    root = acne04(tmp_path / "ACNE04" / "ACNE04")
    assert recognise(tmp_path) == "acne04"
    imported = import_source("acne04", tmp_path)
    manifest = imported.manifest
    assert manifest.labels == [["mild acne"], ["moderate acne"], ["very severe acne"]]
    assert manifest.column("lesion_count") == [5, 12, 61]
    assert manifest.column("fold") == ["0", "1", "2"]
    assert manifest.column("split") == ["", "", ""]
    assert all("/Classification/JPEGImages/" in image for image in manifest.column("image"))
    assert problems(imported) == {"number of images differs": 1}
    divided = import_source("acne04", root, fold="1").manifest
    assert divided.column("split") == ["train", "test", "train"]


def test_acne04_reports_broken_rows_and_contradicting_names(tmp_path: Path) -> None:
    root = acne04(tmp_path)
    for fold in range(5):
        text(root / "Classification" / f"NNEW_trainval_{fold}.txt", "levle0_0.jpg 2 5\nlevle1_7\n")
        text(root / "Classification" / f"NNEW_test_{fold}.txt", "")
    imported = import_source("acne04", root)
    assert problems(imported)["broken row"] == 5
    assert problems(imported)["severity differs from the one in the file's name"] == 1
    (root / "Classification" / "NNEW_test_0.txt").write_bytes(b"levle0_0.jpg 0 5\n\xff\xfe\n")
    assert problems(import_source("acne04", root))["broken row"] == 6
    with pytest.raises(UserError, match="no fold '5'"):
        import_source("acne04", root, fold="5")


DERM7PT = (
    "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,"
    "regression_structures,dots_and_globules,blue_whitish_veil,vascular_structures,"
    "level_of_diagnostic_difficulty,elevation,location,sex,management,clinic,derm,case_id,notes\n"
    "1,basal cell carcinoma,0,absent,absent,absent,absent,absent,absent,arborizing,medium,nodular,"
    "abdomen,male,excision,NEL/NEL025.JPG,Nel/Nel026.jpg,,\n"
    "2,melanoma (in situ),5,atypical,irregular,absent,combinations,irregular,present,absent,low,"
    "flat,head neck,female,excision,FAL/FAL027.jpg,FAL/FAL027.jpg,,clinical image missing\n"
    "5,lentigo,1,typical,regular,absent,absent,regular,absent,absent,high,flat,back,female,"
    "no further examination,Gzl/Gzl01.jpg,Gzl/Gzl02.jpg,C12,\n"
)


def test_derm7pt_both_pictures_of_a_case(tmp_path: Path) -> None:
    root = tmp_path / "release_v0"
    text(root / "meta" / "meta.csv", DERM7PT)
    for name, place in {"train": 0, "valid": 2, "test": 1}.items():
        text(root / "meta" / f"{name}_indexes.csv", f"indexes\n{place}\n")
    files = ("NEL/nel025.jpg", "NEL/NEL026.JPG", "FAL/FAL027.jpg", "Gzl/Gzl01.jpg", "Gzl/Gzl02.jpg")
    for name in (*files, "Other/Gzl02.jpg"):
        picture(root / "images" / name)
    assert recognise(tmp_path) == "derm7pt"
    imported = import_source("derm7pt", tmp_path)
    manifest = imported.manifest
    assert manifest.column("lesion_id") == ["1", "1", "2", "5", "5"]
    assert manifest.column("modality") == [
        *("dermoscopic", "clinical"),
        "dermoscopic",
        *("dermoscopic", "clinical"),
    ]
    assert manifest.column("split") == ["train", "train", "test", "val", "val"]
    assert manifest.labels[1:4] == [
        ["basal cell carcinoma"],
        ["melanoma (in situ)", "melanoma"],
        ["lentigo", "miscellaneous"],
    ]
    assert manifest.column("diagnosis_group") == ["BCC", "BCC", "MEL", "MISC", "MISC"]
    assert manifest.column("vascular_structures")[0] == "arborizing"
    assert manifest.column("site")[2] == "head neck"
    expected = {
        "clinical picture is missing, its column repeats the dermoscopic one": 1,
        "number of images differs": 1,
    }
    assert problems(imported) == expected
    undivided = import_source("derm7pt", tmp_path, official_split=False).manifest
    assert set(undivided.column("split")) == {""}


def skincap(root: Path) -> Path:
    header = (
        "id,skincap_file_path,ori_file_path,disease,caption_zh,caption_zh_polish,"
        "caption_zh_polish_en,remark,source,skin_tone,malignant,fitzpatrick_scale,"
        "fitzpatrick_centaur,nine_partition_label,three_partition_label,Vesicle,"
        "Do not consider this image\n"
    )
    rows = (
        '2,2.png,5e82.jpg,psoriasis,红斑,红斑。,"Red plaques,\nwith ""silvery"" scales.",,'
        "fitzpatrick17k,,,3,3,inflammatory,non-neoplastic,0,0\n"
        "10,10.png,000123.png,melanoma ,黑斑,黑斑。,A dark patch.,,ddi,56,True,,,,,0,1\n"
    )
    text(root / "skincap_v240623.csv", header + rows)
    for name in ("2.png", "10.png", "not_include/10.png", "not_include/3.png"):
        picture(root / "skincap" / name)
    return root


def test_skincap_both_files_both_captions(tmp_path: Path) -> None:
    root = skincap(tmp_path / "SkinCAP")
    workbook = pd.DataFrame(
        [
            ["SkinCAP v240715", None, None],
            ["id", "disease", "caption_en"],
            [2, "psoriasis", "Red plaque."],
            [10, "melanoma", "Dark spot."],
        ]
    )
    workbook.to_excel(root / "skincap_v240715.xlsx", header=False, index=False)
    assert recognise(tmp_path) == "skincap"
    manifest = import_source("skincap", tmp_path).manifest
    assert manifest.column("image") == ["SkinCAP/skincap/2.png", "SkinCAP/skincap/10.png"]
    assert manifest.column("caption") == ["Red plaque.", "Dark spot."]
    polished = manifest.column("caption_zh_polish_en")
    assert polished[0] == 'Red plaques,\nwith "silvery" scales.'
    assert manifest.labels == [["psoriasis"], ["melanoma"]]
    assert manifest.column("skin_type") == [3, None]
    assert manifest.column("ori_file_path") == ["5e82.jpg", "000123.png"]
    assert manifest.sources["skincap"].vocabulary == ("melanoma", "psoriasis")
    other = import_source("skincap", tmp_path, caption="caption_zh_polish_en", only_considered=True)
    assert other.manifest.column("caption") == polished[:1]


def test_skincap_without_the_workbook(tmp_path: Path) -> None:
    skincap(tmp_path)
    manifest = import_source("skincap", tmp_path).manifest
    assert manifest.column("caption")[1] == "A dark patch."
    with pytest.raises(UserError, match=r"caption_en is in skincap_v\*\.xlsx"):
        import_source("skincap", tmp_path, caption="caption_en")


def test_waterloo_pairs_pictures_and_outlines_in_one_folder(tmp_path: Path) -> None:
    first = tmp_path / "Skin Image Data Set-1" / "skin_data" / "melanoma"
    second = tmp_path / "Skin Image Data Set-2" / "skin_data" / "notmelanoma"
    for place in (first / "dermIS", first / "dermquest", second / "dermis"):
        picture(place / "SSM_1_orig.jpg")
        picture(place / "ssm_1_Contour.png")
        text(place / "Thumbs.db", "x")
    picture(second / "dermquest" / "9_orig.jpg")
    assert recognise(tmp_path) == "waterloo"
    imported = import_source("waterloo", tmp_path)
    manifest = imported.manifest
    assert Counter(name for (name,) in manifest.labels) == {"melanoma": 2, "not melanoma": 2}
    assert manifest.column("collection") == ["dermis", "dermquest", "dermis", "dermquest"]
    for image, mask in zip(manifest.column("image"), manifest.column("mask"), strict=True):
        assert mask is None or Path(mask).parent == Path(image).parent
    assert problems(imported) == {"mask is missing": 1, "number of images differs": 1}


def test_patch16_tissues_and_official_split(tmp_path: Path) -> None:
    tissue, tumour = "nontumor_skin_muscle_skeletal", "tumor_skin_epithelial_bcc"
    text(
        tmp_path / "data" / "tiles-v2.csv",
        "file,class,set\n"
        f"tiles/{tissue}/1.jpg,{tissue},Train\n"
        f"data/tiles/{tumour}/1.jpg,{tumour},Valid\n"
        f"2.jpg,{tumour},Test\n"
        f"tiles/{tumour}/3.jpg,{tumour},Test\n",
    )
    for name in (f"{tissue}/1.jpg", f"{tumour}/1.tif", f"{tumour}/2.jpg"):
        picture(tmp_path / "data" / "tiles" / name)
    assert recognise(tmp_path) == "patch16"
    imported = import_source("patch16", tmp_path)
    manifest = imported.manifest
    cancer = ["basal cell carcinoma"]
    assert manifest.labels == [["skeletal muscle"], cancer, cancer]
    assert manifest.column("split") == ["train", "val", "test"]
    assert set(manifest.column("modality")) == {"histology"}
    assert problems(imported)["image is missing"] == 1


def follow_up(root: Path, rows: str) -> Path:
    for name in "abcde":
        picture(root / f"{name}.jpg")
    header = "image,patient_id,lesion_id,date,label,split,time,event\n"
    return text(root / "follow-up.csv", header + rows)


def test_longitudinal_orders_the_pictures_of_a_lesion(tmp_path: Path) -> None:
    table = follow_up(
        tmp_path,
        "a.jpg,007,L2,2021-03-04,nevus,train,,\n"
        "b.jpg,007,L1,2022-01-31,melanoma,train,,\n"
        "c.jpg,007,L1,2020-01-01,melanoma,train,,\n"
        "d.jpg,007,L1,2020-01-01,melanoma,train,,\n",
    )
    imported = import_source("longitudinal", table)
    manifest = imported.manifest
    assert manifest.column("image") == ["c.jpg", "d.jpg", "b.jpg", "a.jpg"]
    assert manifest.column("visit") == [0, 0, 1, 0]
    assert manifest.column("days") == [0, 0, 761, 0]
    assert problems(imported)["seen on one day only: no change can be learnt"] == 1


def test_longitudinal_reports_what_cannot_be_followed(tmp_path: Path) -> None:
    table = follow_up(
        tmp_path,
        "a.jpg,1,L1,03/04/2021,x,train,12.5,1\n"
        "b.jpg,1,L1,2021-02-30,x,test,-3,1\n"
        "c.jpg,2,L1,2021-01-01,x,train,12.5,2\n"
        "d.jpg,3,,2021-01-01,x,train,8,0\n"
        "e.jpg,4,L4,2021-01-01,x,train,1,0\n",
    )
    found = problems(import_source("longitudinal", table))
    assert found == {
        "column 'label' is read as labels": 1,
        "value of 'date' cannot be used and is left empty": 2,
        "value of 'time' cannot be used and is left empty": 1,
        "value of 'event' cannot be used and is left empty": 1,
        "image without lesion_id": 1,
        "lesion belongs to several patients": 1,
        "patient_id is on both sides of the split": 1,
        "time without event, or event without time": 2,
        "image without a usable date, it has no place in the order": 2,
        "seen on one day only: no change can be learnt": 1,
    }


def test_longitudinal_reads_other_dates_and_codes(tmp_path: Path) -> None:
    table = follow_up(
        tmp_path,
        "a.jpg,1,L1,31.12.2020,x,,99,3\nb.jpg,1,L1,01.12.2020,x,,99,3\nc.jpg,2,L2,,x,,10,1\n",
    )
    options = {"date_format": "%d.%m.%Y", "event_values": "1"}
    imported = import_source("longitudinal", table, **options)
    assert imported.manifest.column("days") == [0, 30, None]
    assert imported.manifest.column("event") == [False, False, True]
    with pytest.raises(UserError, match="neither lesions nor patients"):
        import_source("longitudinal", text(tmp_path / "t.csv", "image,date\na.jpg,2020-01-01\n"))
    with pytest.raises(UserError, match="set date_format"):
        import_source("longitudinal", text(tmp_path / "t.csv", "image,patient_id\na.jpg,1\n"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not here")
def test_real_survival_of_melanoma_patients(tmp_path: Path) -> None:
    patients = pd.read_csv(REAL / "metadata" / "Melanoma_MASS.csv", index_col=0)
    picture(tmp_path / "x.jpg")
    table = patients.assign(image="x.jpg", patient=patients.index)
    table.to_csv(tmp_path / "mass.csv")
    options = {"event_column": "status", "event_values": "1"}
    imported = import_source("longitudinal", tmp_path / "mass.csv", **options)
    assert sum(imported.manifest.column("event")) == 57
    assert sum(imported.manifest.column("time")) == patients["time"].sum()
    warned = {found.problem for found in imported.findings if found.severity != "note"}
    assert warned == {"value of 'sex' cannot be used and is left empty"}  # Coded as 0 and 1.


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_real_moles_to_melanoma() -> None:
    imported = import_source("auto", REAL / "NCI-moles-to-melanoma")
    manifest = imported.manifest
    assert len(manifest) == 122
    assert len(set(manifest.column("lesion_id"))) == 29
    assert all(manifest.column("caption"))
    assert Counter(name for (name,) in manifest.labels) == {
        "common acquired nevus": 6,
        "dysplastic nevus": 67,
        "melanoma": 49,
    }
    assert problems(imported) == {"recognised as nci-moles": 1}


def test_archives_are_read_in_place(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "acne"), "zip", acne04(tmp_path / "unpacked"))
    archive = tmp_path / "acne.zip"
    assert recognise(archive) == "acne04"
    assert len(import_source("acne04", archive, fold="0").manifest) == 3
    root = skincap(tmp_path / "cap")
    header = [["", ""], ["ID", "caption_en"], [2, "Red."], [10, "Dark."]]
    frame = pd.DataFrame(header).assign(disease=["", "disease", "psoriasis", "melanoma"])
    frame.to_excel(root / "skincap_v240715.xlsx", header=False, index=False)
    shutil.make_archive(str(tmp_path / "skincap"), "zip", root)
    manifest = import_source("skincap", tmp_path / "skincap.zip").manifest
    assert manifest.column("caption") == ["Red.", "Dark."]
    assert manifest.column("image")[0] == "skincap.zip!/skincap/2.png"


@pytest.mark.parametrize("name", templates())
def test_a_filled_template_is_imported_by_its_name_and_by_csv(tmp_path: Path, name: str) -> None:
    template = templates()[name]
    table, photos = tmp_path / f"{name}.csv", tmp_path / "photos"
    with pytest.raises(SystemExit, match="0"):
        main(["data", "template", name, "--out", str(table)])
    empty = pd.read_csv(table, dtype=str)
    classes = template.classes or (None,)
    rows = []
    for number in range(4 * len(classes)):
        label = classes[number % len(classes)]
        picture(photos / f"{number}.png")
        row = {"image": f"{number}.png", "patient_id": f"P{number}", "lesion_id": f"P{number}"}
        rows.append({**empty.iloc[0].dropna(), **row, "labels": label and label.upper()})
    filled = pd.concat([empty, pd.DataFrame(rows)])[empty.columns]
    filled.to_csv(table, index=False)

    imported = import_source(name, table, image_root=photos)
    manifest = imported.manifest
    assert len(manifest) == len(rows)
    assert {label for labels in manifest.labels for label in labels} == set(template.classes)
    assert manifest.sources[name].vocabulary == template.classes
    assert not [found for found in imported.findings if found.severity == "error"]
    assert recognise(tmp_path) == name
    if template.suite:
        prepared = prepare_tasks([read_suite(template.suite)], manifest, [name])
        assert set(prepared.tasks[0].classes) == set(template.classes)

    plain = import_source("csv", table, image_root=photos)
    assert len(plain.manifest) == len(rows)
    missing = [found.path for found in plain.findings if found.problem == "image is missing"]
    assert missing == [EXAMPLE_IMAGE]


def test_a_wrongly_filled_template_is_explained(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    table = text(tmp_path / "mpl5.csv", "image,labels\na.png,\na.png,\n")
    with pytest.raises(UserError, match="has no labels"):
        import_source("mpl5", table)
    text(table, "image,labels,sex\na.png,Bowen disease,f\na.png,Melanoma,\na.png,,\n")
    imported = import_source("mpl5", tmp_path)
    assert imported.manifest.labels == [[], ["melanoma"], []]
    remedies = {found.problem: found.remedy for found in imported.findings}
    assert "Did you mean 'Bowen's disease'?" in remedies["label is no class of MPL5"]
    assert problems(imported)["labels is empty"] == 1
    with pytest.raises(UserError, match="exists and may be filled in"):
        write_template("mpl5", table)
    with pytest.raises(UserError, match="Did you mean 'mpl5'"):
        write_template("mpl", tmp_path / "new.csv")


def test_the_catalogue_covers_all_published_sets() -> None:
    own_data = {"csv", "folder", "longitudinal"}
    assert set(catalogue()) == {name for name, _ in SOURCES} - own_data
    for about in describe_sources():
        if about["name"] not in own_data:
            assert about["licence"], about["name"]
            assert about["url"] or about["template"], about["name"]


def test_list_shows_all_sources_one_of_them_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    def show(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            main(["data", "list", *arguments])
        return capsys.readouterr().out

    everything = show()
    assert all(f"\n{name}\n" in everything for name, _ in SOURCES)
    derm7pt = show("derm7pt")
    for part in ("2,013", "meta.csv", "request form", "no redistribution", "official_split"):
        assert part in derm7pt
    listed = {about["name"]: about for about in json.loads(show("--json"))}
    assert listed["skincap"]["carries"] == ["captions", "skin types", "skin concepts"]
    assert listed["mpl5"]["template"]
    assert listed["isic2017"]["download"]
    assert sum(len(about["tasks"].get("paper", ())) for about in listed.values()) == 20
    assert json.loads(show("skincap", "--json"))["options"]
