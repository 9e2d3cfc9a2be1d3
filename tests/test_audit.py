"""The audit: same images by name, content and look, and what evaluations make of them."""

from __future__ import annotations

from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from dermino.audit import Audit, audit
from dermino.audit.calibration import HASH, Distinct, calibrate
from dermino.audit.hash_search import hash_distances, near_hashes
from dermino.audit.perceptual_hash import ORIENTATIONS, hash_encoder, oriented
from dermino.audit.vector_search import near_vectors
from dermino.cli.main import main
from dermino.data.identity import NameIndex, group_names, image_names, shared_names
from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.leakage import SamePictures, SeenImages, seen_in_pretraining

TURNS = {
    "upright": lambda x: x,
    "mirrored": lambda x: x.flip(-1),
    "upside down": lambda x: x.flip(-2),
    "turned 180": lambda x: x.flip(-1, -2),
    "transposed": lambda x: x.transpose(-1, -2),
    "turned 90": lambda x: x.rot90(1, (-2, -1)),
    "turned 270": lambda x: x.rot90(3, (-2, -1)),
    "transverse": lambda x: x.transpose(-1, -2).flip(-1, -2),
}


def drawn(number: int, seed: int = 0, height: int = 64, width: int = 64) -> torch.Tensor:
    coarse = torch.rand(number, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    images = interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return images.mul(255).byte()


def save(image: torch.Tensor, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, **options)


def write(path: Path, rows: list[tuple[str, str, str]], dataset: str, **columns: list) -> Path:
    images, splits, labels = zip(*rows, strict=True)
    frame = pd.DataFrame({"image": images, "split": splits, "labels": [[x] for x in labels]})
    Manifest.from_frame(frame.assign(dataset=dataset, **columns), path.parent).write(path)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, Path]:
    """Two datasets of drawn pictures; some of the second are of the first, changed."""
    images = drawn(24, height=90, width=120)
    rows = []
    for number, image in enumerate(images):
        save(image, tmp_path / f"a/{number}.png")
        rows.append((f"{number}.png", "test" if number % 2 else "train", "xyz"[number % 3]))
    lesions = [f"L{number // 2}" for number in range(24)]
    first = write(tmp_path / "a/first.parquet", rows, "first", lesion_id=lesions)
    copies = {
        "squashed.png": torch.nn.functional.interpolate(images[1:2].float(), (64, 64))[0].byte(),
        "mirrored.png": images[3].flip(-1),
        "recompressed.jpg": images[5],
        "other.png": drawn(1, seed=1)[0],
    }
    for name, image in copies.items():
        save(image, tmp_path / "b" / name, **({"quality": 50} if name.endswith("jpg") else {}))
    (tmp_path / "b/copy.png").write_bytes((tmp_path / "a/7.png").read_bytes())
    names = [*copies, "copy.png"]
    second = write(tmp_path / "b/second.parquet", [(n, "train", "q") for n in names], "second")
    return first, second


def run(archive: tuple[Path, Path], out: Path, **options: object) -> Audit:
    first, second = archive
    shared = {"cache": out.parent / "cache", "workers": 0, "device": "cpu"}
    return audit([first], out, against=[second], **{**shared, **options})


def test_bits_of_the_hash_tell_those_of_the_turned_picture() -> None:
    images, encoder = drawn(3), hash_encoder()
    hashes = encoder.embed(images).numpy().astype(np.uint8)
    for orientation in ORIENTATIONS:
        turned = encoder.embed(TURNS[orientation](images)).numpy().astype(np.uint8)
        np.testing.assert_array_equal(oriented(hashes, orientation), turned)
        assert hash_distances(hashes, turned)[0].max() == 0
    for image, own in zip(images, hashes, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        reference = imagehash.phash(picture, hash_size=16).hash.ravel()
        assert (reference != np.unpackbits(own)).sum() < 20


def test_searches_find_what_comparing_all_pairs_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (400, 32), dtype=np.uint8)
    hashes[200:250] = oriented(hashes[:50], "turned 270")
    hashes[200:250, :2] ^= random.integers(0, 256, (50, 2), dtype=np.uint8)
    found = near_hashes(hashes, 16, tmp_path)
    expected = [(row, row + 200) for row in range(50)]
    assert list(found.itertuples(index=False, name=None)) == expected
    pytest.importorskip("faiss")
    vectors = random.standard_normal((400, 16)).astype(np.float32)
    vectors[100] = vectors[3] + 0.01
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert near_vectors(vectors, 0.99, tmp_path).to_numpy().tolist() == [[3, 100]]


def test_threshold_keeps_to_the_false_positive_rate() -> None:
    random = np.random.default_rng(0)
    bits = np.sign(random.standard_normal((300, 256))).astype(np.float32)
    bits[1] = bits[0]  # One lesion photographed twice says nothing about different ones.
    numbers = np.arange(300)
    distinct = Distinct(numbers * 0, np.where(numbers == 1, 0, numbers), numbers * 0 - 1)
    copies = {"near": np.array([2, 5]), "far": np.array([3, 250])}
    found = calibrate([bits / 16], copies, distinct, HASH, 1e-4, 300)
    assert found.steps == HASH.loosest
    assert found.false_positive_rate == 0 < found.false_positive_bound < 1e-4
    assert found.different_pairs == 300 * 299 // 2 - 1
    assert found.found_copies == {"near": 1.0, "far": 0.5}
    loose = calibrate([bits / 16], copies, distinct, type(HASH)(128, 256), 0.5, 300)
    assert loose.false_positive_rate <= 0.5
    assert 120 < loose.steps < 135


def test_changed_copies_are_found_and_count_as_seen(
    archive: tuple[Path, Path], tmp_path: Path
) -> None:
    found = run(archive, tmp_path / "out")
    pairs = {(Path(row.image_a).name, Path(row.image_b).name) for row in found.pairs.itertuples()}
    assert pairs == {
        ("1.png", "squashed.png"),
        ("3.png", "mirrored.png"),
        ("5.png", "recompressed.jpg"),
        ("7.png", "copy.png"),
    }
    assert set(found.pairs["problem"]) == {"test image seen in pretraining"}
    assert found.pairs.set_index("image_a")["same_content"].to_dict()["a/7.png"]
    divided = found.groups[found.groups["problem"] == "in several splits"]
    assert divided["name"].tolist()[-1] == "first//L0"
    assert len(divided) == 12
    assert found.leaks == 16
    assert not (tmp_path / "out/unfinished").exists()

    (task,), _ = derive_tasks(Manifest.read(archive[0]))
    seen = image_names(Manifest.read(archive[1])).append_column("labelled", pa.array([True] * 5))
    same = SamePictures.read([tmp_path / "out"])
    assert seen_in_pretraining(task, SeenImages(seen), None).kind == "none"
    exposure = seen_in_pretraining(task, SeenImages(seen), None, same)
    assert (exposure.kind, exposure.test_images) == ("images+labels", 4)
    assert seen_in_pretraining(task, None, {"second": {}}).kind == "none"
    assert seen_in_pretraining(task, None, {"second": {}}, same).kind == "unknown"


def test_names_tell_images_and_lesions_across_datasets(tmp_path: Path) -> None:
    md5 = "0" * 32
    skincap = write(
        tmp_path / "skincap.csv",
        [("skincap/1.png", "", "x"), ("skincap/2.png", "", "x")],
        "skincap",
        ori_file_path=[f"{md5}.jpg", "000123.png"],
        source=["fitzpatrick17k", "ddi"],
    )
    others = pa.table(
        {
            "dataset": ["ddi", "fitzpatrick17k", "isic2019", "isic2019"],
            "image": ["000123.png", f"{md5}.jpg", "ISIC_0000001_downsampled.jpg", "x.jpg"],
            "origin": pa.nulls(4, pa.string()),
        }
    )
    assert list(NameIndex(others).find(image_names(Manifest.read(skincap)))) == [[1], [0]]
    isic = others.slice(2).set_column(1, "image", pa.array(["p/ISIC_0000001.jpg", "y.jpg"]))
    assert list(NameIndex(others).find(isic)) == [[2], []]
    assert shared_names(pa.concat_tables([others, isic])) == [[2, 4]]
    frame = pd.DataFrame({"image": list("abc"), "labels": [[], [], []], "split": ""})
    frame["dataset"] = ["isic2019", "bcn20000", "derm7pt"]
    frame["lesion_id"] = ["BCN_0000001", "BCN_0000001", "7"]
    names = group_names(Manifest.from_frame(frame, tmp_path), "lesion_id")
    assert names == ["BCN_0000001", "BCN_0000001", "derm7pt//7"]


def test_command_says_by_its_exit_code_whether_there_are_leaks(
    archive: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = map(str, archive)
    out = tmp_path / "audit"
    common = ["--out", str(out), "--cache", str(tmp_path / "cache"), "--workers", "0"]
    for fail_on, code in (("nothing", 0), ("leaks", 3), ("duplicates", 3)):
        with pytest.raises(SystemExit) as left:
            main(["data", "audit", first, second, *common, "--fail-on", fail_on])
        assert left.value.code == code
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 8
    assert "http" not in page.replace('lang="en"', "")
    assert len(pd.read_csv(out / "findings.csv")) == 16
    with pytest.raises(SystemExit) as left:
        main(["data", "audit", second, "--out", str(out), "--no-pictures", "--fail-on", "leaks"])
    assert left.value.code == 0


def test_an_interrupted_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dermino.audit import hash_search

    hashes = np.random.default_rng(0).integers(0, 256, (50, 32), dtype=np.uint8)
    hashes[1] = hashes[0]
    compared = hash_search._near
    calls = []

    def stopped(*arguments: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return compared(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hash_search, "_near", stopped)
    with pytest.raises(KeyboardInterrupt):
        near_hashes(hashes, 20, tmp_path)
    kept = len(list(tmp_path.glob("*/*.parquet")))
    assert kept > 0
    monkeypatch.setattr(hash_search, "_near", compared)
    assert near_hashes(hashes, 20, tmp_path).to_numpy().tolist() == [[0, 1]]


def test_what_cannot_be_used_is_said(archive: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        run(archive, tmp_path / "out", false_positive_rate=2.0)
    with pytest.raises(UserError, match="holds no audit"):
        SamePictures.read([tmp_path])
    with pytest.raises(UserError, match="looks at pictures"):
        run(archive, tmp_path / "out", encoder="random:resnet10t", pictures=False)
