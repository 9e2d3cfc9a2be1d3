"""Images inside archives and behind URLs are read in place, as if they were files."""

import multiprocessing
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from dermino.data.check import check
from dermino.data.file_index import FileIndex
from dermino.data.images import UnreadableImage, read_image
from dermino.data.manifest import Manifest
from dermino.data.reference import Reference, exists, read, size_and_date
from dermino.data.source import import_source
from dermino.data.text_table import read_text_table
from dermino.errors import UserError
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import check_files, extract
from dermino.models.load import load_encoder

IDS = [f"ISIC_{number:07}" for number in range(12)]


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HAM10000 as its publisher ships it, unpacked."""
    folder = tmp_path_factory.mktemp("ham") / "loose"
    (folder / "HAM10000_images_part_1").mkdir(parents=True)
    (folder / "masks").mkdir()
    random = np.random.default_rng(0)
    for name in IDS:
        pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "HAM10000_images_part_1" / f"{name}.jpg")
        Image.fromarray(pixels[..., 0] & 128).save(folder / "masks" / f"{name}_segmentation.png")
    rows = [f"HAM_{i},{name},{'mel' if i % 2 else 'nv'},40,male" for i, name in enumerate(IDS)]
    table = "\n".join(["lesion_id,image_id,dx,age,sex", *rows])
    (folder / "HAM10000_metadata.csv").write_text(table)
    return folder


@pytest.fixture(scope="module")
def packed(loose: Path) -> Path:
    """The same in a zip, a tar and an archive that operating systems have left things in."""
    folder = loose.parent / "packed"
    folder.mkdir()
    images = sorted((loose / "HAM10000_images_part_1").iterdir())
    with zipfile.ZipFile(folder / "HAM10000_images_part_1.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for image in images[:6]:
            file.write(image, f"HAM10000_images_part_1/HAM10000_images_part_1/{image.name.upper()}")
            file.writestr(f"__MACOSX/HAM10000_images_part_1/._{image.name}", "x")
            file.writestr(f"HAM10000_images_part_1/._{image.name}", "x")
    with tarfile.open(folder / "part_2.tar", "w") as file:
        for image in images[6:]:
            file.add(image, f"./{image.name}")
    with zipfile.ZipFile(folder / "rest.zip", "w") as file:
        file.write(loose / "HAM10000_metadata.csv", "tables/HAM10000_metadata.csv")
        for mask in sorted((loose / "masks").iterdir()):
            file.write(mask, mask.name)
    return folder


def rows(manifest: Manifest) -> list[dict]:
    return manifest.table.drop_columns(["image", "mask"]).to_pylist()


def test_an_import_from_archives_gives_the_rows_pixels_and_features_of_files(
    loose: Path, packed: Path, tmp_path: Path
) -> None:
    files = import_source("ham10000", loose).manifest
    imported = import_source("ham10000", packed)
    members = imported.manifest
    assert {finding.problem for finding in imported.findings} == {"number of images differs"}
    assert rows(members) == rows(files)
    assert members.column("image")[0] == (
        "HAM10000_images_part_1.zip!/HAM10000_images_part_1/HAM10000_images_part_1/ISIC_0000000.JPG"
    )
    assert members.column("image")[-1] == "part_2.tar!/ISIC_0000011.jpg"
    for one, other in zip(files.paths(), members.paths(), strict=True):
        assert read_image(one).equal(read_image(other))
    for one, other in zip(files.column("mask"), members.column("mask"), strict=True):
        assert read_image(files.locate(one)).equal(read_image(members.locate(other)))
    result = check(members, workers=2)
    assert (len(result.readable), result.findings) == (12, [])

    members.write(tmp_path / "members.parquet")
    read_back = Manifest.read(tmp_path / "members.parquet")
    joined = Manifest.join([files, read_back])
    check_files(joined.paths())
    encoder = load_encoder("random:vit_tiny_patch16_224", 32)
    cache = FeatureCache(tmp_path / "cache")
    features = extract(encoder, read_back.paths(), cache, workers=2)
    np.testing.assert_array_equal(features, extract(encoder, files.paths(), cache))


def test_files_win_over_members_and_whole_archives_can_be_imported(
    loose: Path, tmp_path: Path
) -> None:
    image = loose / "HAM10000_images_part_1" / "ISIC_0000000.jpg"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for member in ("nevus/1.jpg", "nevus/2.jpg", "melanoma/1.jpg", "../1.jpg", "/etc/1.jpg"):
            file.writestr(member, image.read_bytes())
    inside = ["a.zip!/melanoma/1.jpg", "a.zip!/nevus/1.jpg", "a.zip!/nevus/2.jpg"]
    assert FileIndex(tmp_path / "a.zip").images == inside
    manifest = import_source("folder", tmp_path / "a.zip").manifest
    assert manifest.labels == [["melanoma"], ["nevus"], ["nevus"]]

    (tmp_path / "a" / "Nevus").mkdir(parents=True)
    (tmp_path / "a" / "Nevus" / "1.jpg").write_bytes(image.read_bytes())
    index = FileIndex(tmp_path)
    assert index.images == ["a/Nevus/1.jpg", inside[0], inside[2]]
    assert index.named("1.jpg") == ["a/Nevus/1.jpg"]
    assert index.named("melanoma/1") == [inside[0]]
    assert index.archives == []


def test_urls_name_files_and_members(loose: Path, packed: Path) -> None:
    memory = fsspec.filesystem("memory")
    image = loose / "HAM10000_images_part_1" / "ISIC_0000007.jpg"
    memory.pipe("/clinic/part.tar", (packed / "part_2.tar").read_bytes())
    memory.pipe("/clinic/rest.zip", (packed / "rest.zip").read_bytes())
    memory.pipe("/clinic/a.jpg", image.read_bytes())
    urls = [
        "memory://clinic/a.jpg",
        "memory://clinic/part.tar!/ISIC_0000007.jpg",
        f"file://{image}",
        f"file://{packed}/part_2.tar!/ISIC_0000007.jpg",
    ]
    manifest = Manifest.read(_csv(loose.parent / "urls.csv", urls))
    moved = Manifest.join([manifest, import_source("ham10000", packed).manifest])
    assert moved.column("image")[:4] == urls
    for reference in moved.paths()[:4]:
        assert read(reference) == image.read_bytes()
        assert size_and_date(reference) is not None
    assert not exists("memory://clinic/part.tar!/b.jpg")
    assert not exists("memory://clinic/b.jpg")
    table = read_text_table("memory://clinic/rest.zip!/tables/HAM10000_metadata.csv")
    assert list(table["image_id"]) == IDS


def _csv(path: Path, images: list[str]) -> Path:
    path.write_text("\n".join(["image", *images]))
    return path


@pytest.mark.parametrize("stored", [np.void, np.bytes_, lambda data: np.frombuffer(data, np.uint8)])
def test_encoded_images_are_read_from_hdf5(
    loose: Path, tmp_path: Path, stored: Callable[[bytes], object]
) -> None:
    h5py = pytest.importorskip("h5py")
    image = loose / "HAM10000_images_part_1" / "ISIC_0000003.jpg"
    data = image.read_bytes()
    with h5py.File(tmp_path / "train-image.hdf5", "w") as file:
        file["ISIC_0000003"] = stored(data)
    index = FileIndex(tmp_path)
    assert index.named("ISIC_0000003.jpg") == ["train-image.hdf5!/ISIC_0000003"]
    found = tmp_path / "train-image.hdf5!/ISIC_0000003"
    assert read(found) == data
    assert read_image(found).equal(read_image(image))


def _broken(folder: Path) -> dict[str, str]:
    """References that cannot be read, with what is said of them."""
    with tarfile.open(folder / "b.tar.gz", "w:gz") as file:
        file.add(__file__, "a.jpg")
    (folder / "c.zip").write_bytes(b"PK\3\4 no more")
    with zipfile.ZipFile(folder / "d.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.jpg", b"pixels" * 1000)
        file.writestr("b.jpg", b"")
    data = bytearray((folder / "d.zip").read_bytes())
    data[40] ^= 255
    (folder / "d.zip").write_bytes(data)
    with tarfile.open(folder / "e.tar", "w") as file:
        file.add(__file__, "a.jpg")
    size = Path(__file__).stat().st_size
    (folder / "e.idx").write_text(f"v1.2 1\njpg 1024 {size} a.jpg\n")
    return {
        "a.zip!/a.jpg": "there is no such file",
        "b.tar.gz!/a.jpg": "unpack it",
        "c.zip!/a.jpg": "not a whole zip file",
        "d.zip!/a.jpg": "damaged in the zip file",
        "d.zip!/b.jpg": "the file is empty",
        "d.zip!/../../etc/passwd": "there is no such file",
        "e.tar!/a.jpg": "has changed since it was indexed",
        "e.tar!/b.jpg": "there is no such file",
    }


def test_what_is_wrong_with_a_member_is_said(tmp_path: Path) -> None:
    for reference, message in _broken(tmp_path).items():
        with pytest.raises(UnreadableImage, match=message):
            read_image(tmp_path / reference)
    (tmp_path / "d.zip").unlink()
    with pytest.raises(UserError, match=r"Unpack b\.tar\.gz first"):
        import_source("ham10000", tmp_path)


def _same(arguments: tuple[list[Reference], list[bytes]]) -> bool:
    references, expected = arguments
    return [read(reference) for reference in references] == expected


def test_processes_and_threads_read_from_one_archive(loose: Path, packed: Path) -> None:
    references = import_source("ham10000", packed).manifest.paths()
    expected = [read(path) for path in import_source("ham10000", loose).manifest.paths()]
    random = np.random.default_rng(0)
    orders = [random.permutation(np.tile(np.arange(12), 20)) for _ in range(4)]
    work = [([references[i] for i in order], [expected[i] for i in order]) for order in orders]
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(_same, work))
    with multiprocessing.get_context("fork").Pool(4) as processes:
        assert all(processes.map(_same, work))


def test_a_rewritten_archive_is_read_anew(tmp_path: Path) -> None:
    for content in (b"first", b"second, longer"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("a.jpg", content)
        assert read(tmp_path / "a.zip!/a.jpg") == content
