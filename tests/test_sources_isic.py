import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermino.data.findings import Finding
from dermino.data.isic_duplicates import read_duplicate_lists
from dermino.data.manifest import Manifest
from dermino.data.source import Imported, import_source, recognise
from dermino.errors import UserError

METADATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "metadata"
with_metadata = pytest.mark.skipif(not METADATA.is_dir(), reason="the real tables are not here")


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), "salmon").save(buffer, "JPEG")
    return buffer.getvalue()


JPEG = _jpeg()


def pictures(folder: Path, *names: str, ending: str = ".jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{ending}").write_bytes(JPEG)


def table(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def labels(imported: Imported) -> dict[str, list[str]]:
    names = [Path(name).stem for name in imported.manifest.column("image")]
    return dict(zip(names, imported.manifest.labels, strict=True))


def details(imported: Imported, problem: str) -> list[str]:
    return [found.detail for found in imported.findings if found.problem == problem]


def test_isic2016_without_header_lines_in_both_parts(tmp_path: Path) -> None:
    for part in ("1", "3"):
        pictures(
            tmp_path / f"ISBI2016_ISIC_Part{part}_Training_Data", "ISIC_0000000", "ISIC_0000002"
        )
    pictures(tmp_path / "ISBI2016_ISIC_Part3_Test_Data", "ISIC_0000003")
    masks = tmp_path / "ISBI2016_ISIC_Part1_Training_GroundTruth"
    pictures(masks, "ISIC_0000000", ending="_Segmentation.png")
    table(
        tmp_path / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv",
        "ISIC_0000000,benign",
        "ISIC_0000002,malignant",
    )
    table(tmp_path / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv", "ISIC_0000003,1.0")
    imported = import_source("auto", tmp_path)
    assert labels(imported) == {
        "ISIC_0000000": ["benign"],
        "ISIC_0000002": ["malignant"],
        "ISIC_0000003": ["malignant"],
    }
    assert imported.manifest.column("split") == ["train", "train", "test"]
    assert [bool(mask) for mask in imported.manifest.column("mask")] == [True, False, False]
    assert details(imported, "several files of one name") == []
    counts = ["train: 2 here, 900 published", "test: 1 here, 379 published"]
    assert details(imported, "number of images differs") == counts


def test_isic2016_part_3b_keeps_masks_beside_images(tmp_path: Path) -> None:
    folder = tmp_path / "ISBI2016_ISIC_Part3B_Training_Data"
    pictures(folder, "ISIC_0000000")
    pictures(folder, "ISIC_0000000", ending="_Segmentation.png")
    manifest = import_source("isic2016", folder).manifest
    assert manifest.column("image") == ["ISIC_0000000.jpg"]
    assert manifest.column("mask") == ["ISIC_0000000_Segmentation.png"]
    assert not manifest.labelled.any()


def test_years_side_by_side_keep_their_own_images_and_masks(tmp_path: Path) -> None:
    pictures(tmp_path / "2017" / "ISIC-2017_Training_Data", "ISIC_0000001")
    table(
        tmp_path / "2017" / "ISIC-2017_Training_Part3_GroundTruth.csv",
        "image_id,melanoma,seborrheic_keratosis",
        "ISIC_0000001,0.0,0.0",
        "ISIC_0000005,1.0,0.0",
    )
    task = tmp_path / "2018" / "ISIC2018_Task1-2_Training_Input"
    pictures(task / "isic2018_task1-2_training_input", "ISIC_0000001", "ISIC_0000005")
    table(task / "ATTRIBUTION.txt", "ISIC")
    masks = tmp_path / "2018" / "ISIC2018_Task1_Training_GroundTruth"
    pictures(masks, "ISIC_0000001", "ISIC_0000005", ending="_segmentation.png")
    earlier = import_source("isic2017", tmp_path)
    assert labels(earlier) == {"ISIC_0000001": ["nevus"]}
    assert earlier.manifest.column("mask") == [None]
    missing = [found.path for found in earlier.findings if found.problem == "image is missing"]
    assert missing == ["ISIC-2017_Training_Data/ISIC_0000005.jpg"]
    later = import_source("isic2018-segmentation", tmp_path).manifest
    assert len(later) == 2
    assert all(later.column("mask"))
    assert not later.labelled.any()


def test_isic2018_diagnoses_and_lesions(tmp_path: Path) -> None:
    pictures(tmp_path / "ISIC2018_Task3_Training_Input", "ISIC_0024306", "ISIC_0024307")
    pictures(tmp_path / "ISIC2018_Task3_Test_Input", "ISIC_0034524")
    truth = tmp_path / "ISIC2018_Task3_Training_GroundTruth"
    table(
        truth / "ISIC2018_Task3_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC",
        "ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0",
        "ISIC_0024307,0.0,0.0,0.0,1.0,0.0,0.0,0.0",
    )
    table(
        tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type",
        "ISIC_0024306,HAM_0000550,serial imaging showing no change",
        "ISIC_0024307,HAM_0003577,histopathology",
    )
    imported = import_source("auto", tmp_path)
    assert labels(imported) == {
        "ISIC_0024306": ["melanocytic nevus"],
        "ISIC_0024307": ["actinic keratosis or intraepithelial carcinoma"],
        "ISIC_0034524": [],
    }
    assert imported.manifest.column("lesion_id") == ["HAM_0000550", "HAM_0003577", None]


@pytest.mark.parametrize("sex", ["sex", "gender"])
@pytest.mark.parametrize("packed", [False, True])
def test_isic2019_unpacked_twice_or_packed(tmp_path: Path, sex: str, packed: bool) -> None:
    train, test = "ISIC_2019_Training_Input", "ISIC_2019_Test_Input"
    names = [f"{train}/ISIC_0000000.jpg", f"{train}/ISIC_0000017_downsampled.JPG"]
    names += [f"{train}/ISIC_0000400.jpg", f"{train}/LICENSE.txt"]
    if packed:
        with zipfile.ZipFile(tmp_path / f"{train}.zip", "w") as archive:
            for name in names:
                archive.writestr(name, JPEG)
    else:
        for name in names:
            pictures(tmp_path / train / train, Path(name).stem, ending=Path(name).suffix)
    pictures(tmp_path / test, "ISIC_0034321")
    table(
        tmp_path / "ISIC_2019_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
        "ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
        "ISIC_0000017_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
        "ISIC_0000400,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0",
    )
    table(
        tmp_path / "ISIC_2019_Training_Metadata.csv",
        f"image,age_approx,anatom_site_general,lesion_id,{sex}",
        "ISIC_0000000,55.0,anterior torso,,female",
        "ISIC_0000017_downsampled,,,BCN_0000001,",
        "ISIC_0000400,80,head/neck,MSK4_0011169,male",
    )
    table(
        tmp_path / "ISIC_2019_Test_Metadata.csv",
        "image,age_approx,anatom_site_general,sex",
        "ISIC_0034321,50,lower extremity,male",
    )
    imported = import_source("auto", tmp_path)
    assert labels(imported) == {
        "ISIC_0000000": ["melanocytic nevus"],
        "ISIC_0000017_downsampled": ["melanoma"],
        "ISIC_0000400": [],
        "ISIC_0034321": [],
    }
    manifest = imported.manifest
    assert manifest.column("age") == [55, None, 80, 50]
    assert manifest.column("sex") == ["female", None, "male", "male"]
    assert manifest.column("lesion_id") == [None, "BCN_0000001", "MSK4_0011169", None]
    assert manifest.column("site")[2] == "head/neck"
    assert manifest.column("split") == ["train", "train", "train", "test"]
    assert len(manifest.sources["isic2019"].vocabulary) == 8


def test_isic2020_second_release_with_duplicates(tmp_path: Path) -> None:
    train = tmp_path / "ISIC_2020_Training_JPEG" / "train"
    pictures(train, "ISIC_0000001", "ISIC_0000002", "ISIC_0000003")
    pictures(tmp_path / "ISIC_2020_Test_Input", "ISIC_0052060")
    first = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis"
    table(
        tmp_path / "ISIC_2020_Training_GroundTruth.csv",
        f"{first},benign_malignant,target",
        "ISIC_0000001,old,male,45.0,head/neck,unknown,benign,0",
    )
    table(
        tmp_path / "ISIC_2020_Training_GroundTruth_v2.csv",
        "image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
        "benign_malignant,target",
        "ISIC_0000001,IP_7279968,IL_7972535,male,45.0,head/neck,unknown,benign,0",
        "ISIC_0000002,IP_3075186,IL_3222194,female,45.0,upper extremity,melanoma,malignant,1",
        "ISIC_0000003,IP_3075186,IL_3222195,,,,nevus,benign,0",
    )
    table(
        tmp_path / "ISIC_2020_Training_Duplicates.csv",
        "image_name_1,image_name_2",
        "ISIC_0000001,ISIC_0000003",
    )
    table(
        tmp_path / "ISIC_2020_Test_Metadata.csv",
        "image,patient,anatom_site_general,age_approx,sex",
        "ISIC_0052060,IP_3579794,torso,70.0,male",
    )
    imported = import_source("auto", tmp_path)
    assert labels(imported) == {
        "ISIC_0000001": ["benign"],
        "ISIC_0000002": ["melanoma", "malignant"],
        "ISIC_0000003": ["nevus", "benign"],
        "ISIC_0052060": [],
    }
    manifest = imported.manifest
    patients = ["IP_7279968", "IP_3075186", "IP_3075186", "IP_3579794"]
    assert manifest.column("patient_id") == patients
    assert manifest.column("site")[3] == "torso"
    assert manifest.column("duplicate_of") == [None, None, "ISIC_0000001", None]
    assert len(import_source("isic2020", tmp_path, drop_duplicates=True).manifest) == 3


def test_isic2020_from_kaggle(tmp_path: Path) -> None:
    pictures(tmp_path / "jpeg" / "train", "ISIC_0000001")
    pictures(tmp_path / "jpeg" / "test", "ISIC_0052060")
    header = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge"
    table(
        tmp_path / "train.csv",
        f"{header},diagnosis,benign_malignant,target",
        "ISIC_0000001,IP_1,male,45.0,head/neck,lentigo NOS,benign,0",
    )
    table(tmp_path / "test.csv", header, "ISIC_0052060,IP_2,male,70.0,torso")
    imported = import_source("auto", tmp_path)
    assert labels(imported) == {"ISIC_0000001": ["lentigo NOS", "benign"], "ISIC_0052060": []}
    assert len(import_source("isic2020", tmp_path, drop_duplicates=True).manifest) == 2


LISTS = {
    "01 - downsampled_vs_2016_test": "ISIC (A)/2019/train/downsampled/ISIC_0000017.jpg",
    "03 - downsampled_vs_2016_test": "ISIC (A)/2019/train/downsampled/ISIC_0012970.jpg\n",
    "06 - all_train": "ISIC (B)/2020/train/ISIC_2020_Training_JPEG/train/ISIC_0000001.jpg\n"
    "/home/x/ISIC (B)/2018/train/ISIC2018_Task3_Training_Input/ISIC_0024306.jpg",
    "07 - 2016_train": "ISIC (B)/2016/train/ISBI2016_ISIC_Part3_Training_Data/ISIC_0000000.jpg",
    "12 - all_test": "ISIC (X)/2017/test/ISIC-2017_Test_v2_Data/ISIC_0000002.jpg",
}


def test_union_without_duplicates(tmp_path: Path) -> None:
    for name, lines in LISTS.items():
        table(tmp_path / "lists" / f"{name}_duplicates_deleted.txt", f"/home/x/{lines}")
    pool = tmp_path / "pool"
    pictures(pool / "2016/train/ISBI2016_ISIC_Part3_Training_Data", "ISIC_0000000", "ISIC_0000001")
    pictures(pool / "2016/test/ISBI2016_ISIC_Part3_Test_Data", "ISIC_0000003")
    pictures(pool / "2017/train/ISIC-2017_Training_Data", "ISIC_0000002")
    pictures(pool / "2018/train/ISIC2018_Task3_Training_Input", "ISIC_0024306")
    pictures(
        pool / "2019/train/ISIC_2019_Training_Input",
        "ISIC_0000017_downsampled",
        "ISIC_0012970",
        "ISIC_0024306",
    )
    table(
        pool / "2019/train/ISIC_2019_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
        "ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
    )
    train = pool / "2020/train/ISIC_2020_Training_JPEG/train"
    pictures(train, "ISIC_0000001", "ISIC_0000004")
    imported = import_source("auto", pool, duplicate_lists=tmp_path / "lists")
    assert imported.findings[0].problem == "recognised as isic2016-2020"
    manifest = imported.manifest
    found = zip(manifest.column("dataset"), manifest.column("image"), strict=True)
    assert [(dataset, Path(image).stem) for dataset, image in found] == [
        ("isic2016", "ISIC_0000001"),
        ("isic2017", "ISIC_0000002"),
        ("isic2019", "ISIC_0012970"),  # The list names its downsampled copy, which is not here.
        ("isic2019", "ISIC_0024306"),
        ("isic2020", "ISIC_0000004"),
    ]
    assert manifest.sources["isic2016"].vocabulary == ("benign", "malignant")
    assert "ISIC 2019: 1 of 3, 2 remain" in details(imported, "duplicates were left out")
    assert "ISIC 2018: 1 of 1, 0 remain" in details(imported, "duplicates were left out")
    named_only = "images of the duplicate lists are not among the images"
    assert details(imported, named_only) == ["ISIC 2019: 1 of 2"]
    assert details(imported, "number of images differs") == ["5 here, 57,062 published"]
    assert len(details(imported, "duplicate list is missing")) == 7
    with pytest.raises(UserError, match="duplicate_lists=FOLDER"):
        import_source("isic2016-2020", pool)


@with_metadata
def test_real_lists_leave_57062_of_the_published_images() -> None:
    findings: list[Finding] = []
    named = read_duplicate_lists(METADATA, findings)
    published = {"2016": 900, "2017": 2_000, "2018": 10_015, "2019": 25_331, "2020": 33_126}
    remaining = {year: count - len(named[year]) for year, count in published.items()}
    assert remaining == {"2016": 74, "2017": 1_199, "2018": 0, "2019": 23_096, "2020": 32_693}
    assert sum(remaining.values()) == 57_062
    assert findings == []


@with_metadata
def test_real_tables_of_2016_and_2019(tmp_path: Path) -> None:
    imported = import_source("isic2016-2020", METADATA, keep_missing=True)
    manifest = imported.manifest
    assert Counter(manifest.column("dataset")) == {"isic2016": 74, "isic2019": 23_096}
    assert details(imported, "images of the duplicate lists are not among the images") == []
    whole = import_source("isic2019", METADATA, keep_missing=True).manifest
    assert Counter(name for row in whole.labels for name in row) == {
        "melanocytic nevus": 12_875,
        "melanoma": 4_522,
        "basal cell carcinoma": 3_323,
        "benign keratosis-like lesion": 2_624,
        "actinic keratosis": 867,
        "squamous cell carcinoma": 628,
        "vascular lesion": 253,
        "dermatofibroma": 239,
    }
    blank = {name: whole.column(name).count(None) for name in ("age", "sex", "lesion_id", "site")}
    assert blank == {"age": 437, "sex": 384, "lesion_id": 2_084, "site": 2_631}


def test_archive_export_of_hiba(tmp_path: Path) -> None:
    folder = tmp_path / "ISIC-images"
    pictures(folder, "ISIC_1", "ISIC_2")
    table(folder / "attribution.txt", "HIBA")
    table(
        folder / "metadata.csv",
        "isic_id,attribution,copyright_license,age_approx,anatom_site_1,diagnosis_1,diagnosis_2,"
        "diagnosis_3,diagnosis_confirm_type,fitzpatrick_skin_type,image_type,lesion_id,"
        "patient_id,sex",
        "ISIC_1,Hospital Italiano de Buenos Aires,CC-BY,60,Head and neck,Malignant,"
        "Malignant epidermal proliferations,Basal cell carcinoma,histopathology,III,"
        "clinical: close-up,IL_1,IP_1,female",
        "ISIC_2,Hospital Italiano de Buenos Aires,CC-BY,60,,Benign,,,,II,dermoscopic,IL_1,IP_1,",
    )
    imported = import_source("auto", tmp_path)
    fine = ["Basal cell carcinoma", "Malignant epidermal proliferations", "Malignant"]
    assert labels(imported) == {"ISIC_1": fine, "ISIC_2": ["Benign"]}
    manifest = imported.manifest
    assert manifest.column("dataset") == ["hiba", "hiba"]
    assert manifest.column("modality") == ["clinical", "dermoscopic"]
    assert manifest.column("skin_type") == [3, 2]
    assert manifest.column("site") == ["Head and neck", None]
    assert manifest.column("copyright_license") == ["CC-BY", "CC-BY"]
    assert set(manifest.sources["hiba"].vocabulary) == {*fine, "Benign"}
    assert details(imported, "number of images differs") == ["2 here, 1,616 published"]


@pytest.mark.parametrize(
    ("attribution", "source"),
    [("Memorial Sloan Kettering Cancer Center", "mskcc"), ("Hospital Clínic", "isic-archive")],
)
def test_older_archive_exports(tmp_path: Path, attribution: str, source: str) -> None:
    pictures(tmp_path, "ISIC_1")
    table(
        tmp_path / "metadata.csv",
        "isic_id,attribution,copyright_license,anatom_site_general,benign_malignant,diagnosis",
        f"ISIC_1,{attribution},CC-0,oral/genital,malignant,melanoma",
    )
    imported = import_source("auto", tmp_path)
    assert imported.manifest.column("dataset") == [source]
    assert labels(imported) == {"ISIC_1": ["melanoma", "malignant"]}
    assert imported.manifest.column("site") == ["oral/genital"]


def test_bcn20000_with_images_unlike_any_diagnosis(tmp_path: Path) -> None:
    pictures(tmp_path / "BCN_20k_train" / "bcn_20k_train", "BCN_0000000001")
    pictures(tmp_path / "BCN_20k_test" / "bcn_20k_test", "BCN_0000000003", "BCN_0000000004")
    header = (
        "bcn_filename,age_approx,anatom_site_general,diagnosis,lesion_id,capture_date,sex,split"
    )
    table(
        tmp_path / "bcn_20k_train.csv",
        header,
        "BCN_0000000001.jpg,55.0,anterior torso,MEL,BCN_0003884,2012-05-16,male,train",
    )
    table(
        tmp_path / "bcn_20k_test.csv",
        header,
        "BCN_0000000003.jpg,50.0,,OTHER,BCN_0000019,2016-01-02,female,test",
        "BCN_0000000004.jpg,50.0,,SCC,BCN_0000020,,female,test",
    )
    imported = import_source("auto", tmp_path)
    manifest = imported.manifest
    assert manifest.labels == [["melanoma"], [], ["squamous cell carcinoma"]]
    assert manifest.column("diagnosis") == ["MEL", "OTHER", "SCC"]
    assert manifest.column("split") == ["train", "test", "test"]
    assert [str(day) for day in manifest.column("date")] == ["2012-05-16", "2016-01-02", "None"]
    assert details(imported, "number of images differs") == ["3 here, 18,946 published"]


SLICE_HEADER = "isic_id,target,patient_id,age_approx,sex,anatom_site_general,tbp_tile_type,tbp_lv_A"


def slice_3d(root: Path) -> None:
    table(
        root / "train-metadata.csv",
        f"{SLICE_HEADER},attribution,copyright_license,lesion_id,iddx_full,iddx_1,iddx_2,iddx_3,"
        "mel_thick_mm",
        "ISIC_0015670,0,IP_1235828,60.0,male,lower extremity,3D: white,20.24,MSK,CC-BY,,Benign,"
        "Benign,,,",
        "ISIC_0082829,1,IP_3249371,80.0,male,anterior torso,3D: XP,31.7,MSK,CC-BY,IL_1,"
        "Malignant::x::Melanoma Invasive,Malignant,Malignant melanocytic proliferations (Melanoma),"
        "Melanoma Invasive,0.4",
    )
    header = SLICE_HEADER.replace("target,", "")
    table(
        root / "test-metadata.csv",
        f"{header},attribution,copyright_license",
        "ISIC_0015657,IP_6074337,45.0,male,posterior torso,3D: XP,22.8,MSK,CC-BY",
    )


def test_isic2024_as_hdf5_and_as_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    slice_3d(tmp_path)
    for split, names in {
        "train": ["ISIC_0015670", "ISIC_0082829"],
        "test": ["ISIC_0015657"],
    }.items():
        with h5py.File(tmp_path / f"{split}-image.hdf5", "w") as file:
            for name in names:
                file[name] = np.void(JPEG)
    imported = import_source("auto", tmp_path)
    assert imported.manifest.column("image")[0] == "train-image.hdf5!/ISIC_0015670"
    group = "Malignant melanocytic proliferations (Melanoma)"
    assert imported.manifest.labels == [["Benign"], ["Melanoma Invasive", group, "Malignant"], []]
    assert imported.manifest.column("mel_thick_mm") == [None, 0.4, None]
    assert imported.manifest.column("modality") == ["tbp"] * 3
    assert imported.manifest.column("tbp_lv_A") == [20.24, 31.7, 22.8]
    pictures(tmp_path / "train-image" / "image", "ISIC_0015670", "ISIC_0082829")
    both = import_source("isic2024", tmp_path)
    assert both.manifest.column("image")[0] == "train-image/image/ISIC_0015670.jpg"
    assert details(both, "several files of one name") == []


def test_milk10k_pairs_of_pictures(tmp_path: Path) -> None:
    root = tmp_path / "MILK10k_Training_Input" / "MILK10k_Training_Input"
    for image in ("ISIC_8149219", "ISIC_4671410"):
        pictures(root / "IL_0000652", image)
    pictures(tmp_path / "MILK10k_Test_Input" / "IL_0006177", "ISIC_4671499")
    table(
        tmp_path / "MILK10k_Training_GroundTruth.csv",
        "lesion_id,AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC",
        "IL_0000652,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
    )
    header = (
        "lesion_id,image_type,isic_id,attribution,copyright_license,image_manipulation,"
        "age_approx,sex,skin_tone_class,site,MONET_hair"
    )
    table(
        tmp_path / "MILK10k_Training_Metadata.csv",
        header,
        "IL_0000652,clinical: close-up,ISIC_8149219,MILK,CC-BY-NC,,75.0,male,3,head_neck_face,.1",
        "IL_0000652,dermoscopic,ISIC_4671410,MILK,CC-BY-NC,,75.0,male,3,head_neck_face,.2",
    )
    table(
        tmp_path / "MILK10k_Test_Metadata.csv",
        header,
        "IL_0006177,dermoscopic,ISIC_4671499,MILK,CC-BY-NC,,55.0,female,2,trunk,.3",
    )
    imported = import_source("auto", tmp_path)
    manifest = imported.manifest
    assert manifest.labels == [["basal cell carcinoma"]] * 2 + [[]]
    assert manifest.column("modality") == ["clinical", "dermoscopic", "dermoscopic"]
    assert manifest.column("lesion_id") == ["IL_0000652", "IL_0000652", "IL_0006177"]
    assert manifest.column("skin_tone_class") == ["3", "3", "2"]
    assert manifest.column("skin_type") == [None] * 3
    assert details(imported, "number of images differs") == ["train: 2 here, 10,480 published"]
    table(
        tmp_path / "MILK10k_Training_Supplement.csv",
        "isic_id,diagnosis_full,diagnosis_confirm_type",
        "ISIC_4671410,Basal cell carcinoma nodular,histopathology",
    )
    imported = import_source("milk10k", tmp_path)
    pair = ("Basal cell carcinoma nodular", "basal cell carcinoma")
    assert labels(imported)["ISIC_4671410"] == list(pair)
    assert imported.manifest.sources["milk10k"].parents == (pair,)


def test_a_year_that_is_not_there_is_named(tmp_path: Path) -> None:
    table(tmp_path / "notes.txt", "x")
    with pytest.raises(UserError, match="nothing of ISIC 2019"):
        import_source("isic2019", tmp_path)
    with pytest.raises(UserError, match="not recognised"):
        recognise(tmp_path)


def test_manifest_of_all_years_survives_writing(tmp_path: Path) -> None:
    pictures(tmp_path / "ISIC_2019_Training_Input", "ISIC_0000000")
    manifest = import_source("isic2019", tmp_path).manifest
    manifest.write(tmp_path / "m.parquet")
    stored = Manifest.read(tmp_path / "m.parquet").sources["isic2019"]
    assert stored.licence == "CC BY-NC 4.0"
    assert "BCN20000" in stored.citation
