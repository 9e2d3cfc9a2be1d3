from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dermino.data.images as images
from dermino.cli.main import main
from dermino.data.check import check
from dermino.data.images import UnreadableImage, read_image
from dermino.data.manifest import Manifest
from dermino.errors import UserError

UPRIGHT = 6  # EXIF: the camera was turned by a quarter.


def noise(height: int = 40, width: int = 60) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Good pictures, unusual pictures and files that are none; names say which."""
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    picture = noise()
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT
    picture.save(tmp_path / "good.jpg")
    picture.save(tmp_path / "png_called.jpg", "PNG")
    picture.save(tmp_path / "rotated.jpg", exif=exif)
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((8, 8), 32896, np.uint16)).save(tmp_path / "deep.png")
    picture.save(tmp_path / "moving.gif", save_all=True, append_images=[picture.rotate(90)])
    Image.new("L", (101, 100)).save(tmp_path / "huge.png")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-200])
    (tmp_path / "cut.png").write_bytes((tmp_path / "png_called.jpg").read_bytes()[:900])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "header.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:40])
    return tmp_path


def listing(root: Path, **columns: object) -> Manifest:
    names = sorted(path.name for path in root.iterdir() if path.is_file())
    frame = pd.DataFrame({"image": [*names, "absent.jpg", "good.jpg"], "dataset": "d"})
    return Manifest.from_frame(frame.assign(**columns), root)


def test_check_sorts_pictures_and_names_what_is_wrong(folder: Path) -> None:
    result = check(listing(folder), workers=2)
    found: dict[str, set[str]] = defaultdict(set)
    for finding in result.findings:
        found[Path(finding.path).name].add(finding.problem)
        assert finding.remedy
    assert found == {
        "absent.jpg": {"there is no such file"},
        "cmyk.jpg": {"CMYK colours"},
        "cut.jpg": {"its pixels cannot be decoded"},
        "cut.png": {"its pixels cannot be decoded"},
        "deep.png": {"16 bits a channel"},
        "empty.jpg": {"the file is empty"},
        "good.jpg": {"image is listed twice"},
        "header.jpg": {"its header is damaged"},
        "huge.png": {"it has too many pixels"},
        "moving.gif": {"several frames or pages"},
        "rotated.jpg": {"rotated by EXIF"},
        "text.jpg": {"it is not a picture in a known format"},
    }
    set_aside = {"absent.jpg", "cut.jpg", "cut.png", "empty.jpg", "header.jpg", "huge.png"}
    assert set(result.unreadable.column("image")) == set_aside | {"text.jpg"}
    assert len(result.readable) + len(result.unreadable) == len(listing(folder))
    for path in result.readable.paths():
        assert read_image(path).shape[0] == 3


def test_check_compares_masks_with_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT
    noise().save(tmp_path / "a.jpg", exif=exif)
    Image.new("1", (40, 60)).save(tmp_path / "upright.png")
    Image.new("1", (60, 40)).save(tmp_path / "lying.png")
    Image.new("1", (7, 7)).save(tmp_path / "small.png")
    frame = pd.DataFrame({"image": "a.jpg", "mask": ["upright", "lying", "small", "absent"]})
    frame["mask"] += ".png"
    result = check(Manifest.from_frame(frame.assign(dataset="d"), tmp_path))
    masks = {found.row: found for found in result.findings if "mask" in found.problem}
    assert 1 not in {row for row, found in masks.items() if found.severity == "warning"}
    assert "rotate it" in masks[2].remedy
    assert masks[3].detail == "7 x 7, image 40 x 60"
    assert masks[4].problem == "mask: there is no such file"
    assert len(result.readable) == 4


def test_check_command_sets_rows_aside_and_keeps_the_manifest(folder: Path) -> None:
    path = folder / "manifests" / "m.parquet"
    listing(folder).write(path)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="0"):
        main(["data", "check", str(path)])
    assert path.read_bytes() == before
    unreadable = Manifest.read(path.with_name("m.unreadable.parquet"))
    readable = Manifest.read(path.with_name("m.readable.parquet"))
    assert len(unreadable) == 7
    assert len(readable) + 7 == len(Manifest.read(path))
    assert readable.path(0).is_file()
    assert "text.jpg" in path.with_name("m.findings.csv").read_text()


def test_nothing_readable_is_an_error_that_leaves_the_findings(tmp_path: Path) -> None:
    manifest = Manifest.from_frame(pd.DataFrame({"image": ["x.jpg"], "dataset": "d"}), tmp_path)
    with pytest.raises(UserError, match="None of the 1 images can be read"):
        check(manifest, out=tmp_path / "m")
    assert "x.jpg" in (tmp_path / "m.findings.csv").read_text()
    assert len(Manifest.read(tmp_path / "m.unreadable.parquet")) == 1


def test_pictures_become_upright_rgb(tmp_path: Path) -> None:
    def read(picture: Image.Image, name: str, **options: object) -> torch.Tensor:
        picture.save(tmp_path / name, **options)
        return read_image(tmp_path / name)

    picture = noise()
    rgb = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert read(picture, "a.png").equal(rgb)
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT
    assert read(picture, "turned.png", exif=exif).equal(rgb.rot90(-1, (1, 2)))
    half = picture.convert("RGBA")
    half.putalpha(0)
    assert (read(half, "clear.png") == 255).all()
    assert (read(Image.fromarray(np.full((4, 4), 32896, np.uint16)), "deep.png") == 128).all()
    grey = read(picture.convert("L"), "grey.png")
    assert grey[0].equal(grey[2])
    assert read(picture, "a.gif", save_all=True, append_images=[picture]).shape == (3, 40, 60)
    phone = read(picture, "phone.mpo", save_all=True, append_images=[picture])
    assert phone.equal(read(picture, "phone.jpg"))
    with pytest.raises(UnreadableImage, match="known format"):
        read(picture, "postscript.eps")
    with pytest.raises(UnreadableImage, match="no known range"):
        read(Image.fromarray(np.ones((4, 4), np.float32)), "float.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_both_decoders_agree_on_jpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int, mode: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise().convert(mode).save(tmp_path / "a.jpg", exif=exif)
    fast = read_image(tmp_path / "a.jpg")
    monkeypatch.setattr(images, "decode_jpeg", None)
    assert read_image(tmp_path / "a.jpg").equal(fast)
    assert tuple(fast.shape) == ((3, 40, 60) if orientation <= 4 else (3, 60, 40))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tiff", "a.webp"])
def test_the_upright_size_is_known_before_decoding(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        noise().save(tmp_path / name, exif=exif)
        data = (tmp_path / name).read_bytes()
        picture = images.open_image(data, name)
        size = images.upright_size(picture)
        assert size == tuple(images.decode(picture, data, name).shape[1:])


def test_min_side_reduces_large_jpeg_files_only(tmp_path: Path) -> None:
    noise(400, 600).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", min_side=201).shape == (3, 400, 600)
    assert read_image(tmp_path / "a.jpg", min_side=200).shape == (3, 200, 300)
    assert read_image(tmp_path / "a.jpg", min_side=60).shape == (3, 100, 150)
    noise(400, 600).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", min_side=60).shape == (3, 400, 600)
