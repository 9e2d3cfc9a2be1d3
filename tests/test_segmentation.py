"""Segmentation protocols: metrics against MONAI, heads, and trials through the real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate.evaluate import evaluate
from dermino.evaluate.protocols.segmentation_upernet import SegmentationUperNet
from dermino.evaluate.segmentation import training
from dermino.evaluate.segmentation.boundary import hausdorff95
from dermino.evaluate.segmentation.lesion_mask import read_lesion_mask
from dermino.evaluate.segmentation.linear_head import LinearHead
from dermino.evaluate.segmentation.overlap import (
    count_pixels,
    dice,
    jaccard,
    official_scores,
)
from dermino.evaluate.segmentation.upernet import UperNet
from dermino.models.load import load_encoder

VIT = "vit=random:test_vit"
CONVOLUTIONAL = "conv=random:test_efficientnet"


def blobs(n: int, seed: int = 0) -> np.ndarray:
    """Random lesions (n, 40, 48): smooth, some of them at the border or in pieces."""
    noise = torch.randn(n, 1, 6, 7, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(noise, (40, 48), mode="bicubic")[:, 0] > 0.3).numpy()


def test_metrics_agree_with_monai() -> None:
    metrics = pytest.importorskip("monai.metrics")
    predicted, lesion = blobs(40), blobs(40, seed=1)
    predicted[:4] = lesion[:4]
    predicted[4], lesion[5] = False, False
    predicted[6], lesion[6] = False, False
    lesion[7] = True
    lesion[8] = False
    lesion[8, 0, 0] = True
    ours, theirs = (torch.from_numpy(masks)[:, None] for masks in (predicted, lesion))
    counts = count_pixels(predicted, lesion)
    overlap = metrics.compute_dice(ours, theirs, ignore_empty=False).numpy()[:, 0]
    union = metrics.compute_iou(ours, theirs, ignore_empty=False).numpy()[:, 0]
    defined = np.arange(40) != 6
    assert dice(counts)[defined] == pytest.approx(overlap[defined], abs=1e-6)
    assert jaccard(counts)[defined] == pytest.approx(union[defined], abs=1e-6)
    assert np.isnan([dice(counts)[6], jaccard(counts)[6]]).all()

    distances = [hausdorff95(*pair) for pair in zip(predicted, lesion, strict=True)]
    both = np.setdiff1d(np.arange(40), [4, 5, 6])
    expected = metrics.compute_hausdorff_distance(ours[both], theirs[both], percentile=95)
    assert np.array(distances)[both] == pytest.approx(expected.numpy()[:, 0], rel=1e-6)
    assert np.isnan(distances).nonzero()[0].tolist() == [4, 5, 6]


def test_official_metrics_are_those_of_both_classes_by_batch() -> None:
    predicted, lesion = blobs(5), blobs(5, seed=1)
    predicted[4], lesion[4] = False, False  # Its batch has no lesion: only background counts.
    dices, jaccards = [], []
    for batch in (slice(0, 2), slice(2, 4), slice(4, 5)):
        own, true = predicted[batch].ravel(), lesion[batch].ravel()
        classes = np.union1d(own, true)
        overlaps = [
            2 * ((own == c) & (true == c)).sum() / ((own == c).sum() + (true == c).sum())
            for c in classes
        ]
        dices.append(np.mean(overlaps))
        right, wrong = (own == true).sum(), (own != true).sum()
        jaccards.append(right / (right + 2 * wrong))
    result = official_scores(count_pixels(predicted, lesion), batch_size=2)
    assert result == pytest.approx((np.mean(dices), np.mean(jaccards)), abs=1e-12)


def test_upernet_takes_a_pyramid_or_equal_maps() -> None:
    for shapes in (
        [(12, 8, 8)] * 4,
        [(4, 16, 16), (8, 8, 8), (12, 4, 4), (16, 2, 2)],
    ):
        head = UperNet([depth for depth, *_ in shapes], width=6)
        stages = [torch.randn(2, *shape, requires_grad=True) for shape in shapes]
        logits = head(stages)
        assert logits.shape == (2, 2, *shapes[0][1:])
        logits.sum().backward()
        assert all(stage.grad is not None and stage.grad.abs().sum() > 0 for stage in stages)
        # Four pooled grids, the top, three lateral and three smoothing layers, and the fusion.
        convolutions = [m for m in head.modules() if isinstance(m, torch.nn.Conv2d)]
        assert len(convolutions) == 4 + 1 + 3 + 3 + 1 + 1
    assert LinearHead(12)([torch.randn(2, 12, 8, 8)]).shape == (2, 2, 8, 8)


def test_upernet_takes_the_blocks_asked_for() -> None:
    encoder = load_encoder("random:test_vit", 32)
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    chosen = SegmentationUperNet(blocks=(5, 1)).extractor(encoder)(images)
    for maps, expected in zip(chosen, encoder.stages(images, (5, 1)), strict=True):
        torch.testing.assert_close(maps, expected)
    with pytest.raises(UserError, match="blocks 0 to 5, not all of 5, 6"):
        SegmentationUperNet(blocks=(5, 6)).extractor(encoder)


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    """Eight pictures of dark spots, 60 x 48 pixels; those to test on are those learnt from."""
    rows, columns = np.mgrid[:48, :60]
    for number in range(8):
        centre = 14 + 2.5 * number, 45 - 4 * number
        lesion = np.hypot(rows - centre[0], columns - centre[1]) < 9 + number % 3
        pixels = np.where(lesion[..., None], (90, 50, 40), (220, 180, 160)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        Image.fromarray(lesion).save(tmp_path / f"{number}_mask.png")
    frame = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(8)] * 2,
            "dataset": "spots",
            "split": ["train"] * 8 + ["test"] * 8,
            "labels": [[]] * 16,
            "mask": [f"{number}_mask.png" for number in range(8)] * 2,
        }
    )
    for number in range(8):
        (tmp_path / "again").mkdir(exist_ok=True)
        for name in (f"{number}.png", f"{number}_mask.png"):
            (tmp_path / "again" / name).write_bytes((tmp_path / name).read_bytes())
    for column in ("image", "mask"):
        frame.loc[8:, column] = "again/" + frame.loc[8:, column]
    path = tmp_path / "spots.parquet"
    Manifest.from_frame(frame, tmp_path).write(path)
    return path


def run(manifest: Path, out: str = "results", **options: Any) -> pd.DataFrame:
    defaults: dict[str, Any] = {
        "encoders": [VIT],
        "data": [manifest],
        "target": "mask",
        "out": manifest.parent / out,
        "cache": manifest.parent / "cache",
        "image_size": 96,
        "replicates": 20,
        "workers": 0,
    }
    return evaluate(**{**defaults, **options}).set_index(["encoder", "protocol", "metric"])


def test_the_command_learns_a_tiny_set(lesions: Path) -> None:
    results = lesions.parent / "results"
    settings = []
    for name in ("segmentation-linear", "segmentation-upernet"):
        for value in ("epochs=40", "learning_rate=0.01", "batch_size=3", "size=48"):
            settings += ["--set", f"{name}.{value}"]
    settings += ["--set", "segmentation-upernet.width=8"]
    protocols = ["--protocol", "segmentation-linear", "segmentation-upernet"]
    where = ["--out", str(results), "--cache", str(lesions.parent / "cache")]
    asked = ["--data", str(lesions), "--target", "mask", "--encoder", VIT, CONVOLUTIONAL]
    limits = ["--image-size", "96", "--replicates", "20", "--workers", "0"]
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", *asked, *protocols, *settings, *limits, *where])
    table = pd.read_csv(results / "results.csv").set_index(["encoder", "protocol", "metric"])
    values = table["value"].sort_index()
    for encoder, protocol, least in (
        ("vit", "segmentation-linear", 0.85),
        ("vit", "segmentation-upernet", 0.9),
        ("conv", "segmentation-upernet", 0.95),
    ):
        of_trial = values[encoder, protocol]
        assert of_trial["dice"] > least
        assert of_trial["jaccard"] < of_trial["dice"] < of_trial["dice_official"] < 1
        assert of_trial["hd95"] < 5
        kept = pd.read_parquet(results / f"predictions/spots.mask/{encoder}.{protocol}.parquet")
        assert kept["value:dice"].mean() == pytest.approx(of_trial["dice"])
        assert kept["true_mask"].tolist() == [f"again/{number}_mask.png" for number in range(8)]
        folder = results / "predictions" / "spots.mask" / f"{encoder}.{protocol}"
        for row in kept.itertuples():
            mask = Image.open(folder / row.predicted_mask)
            assert mask.size == (60, 48)
            lesion = np.asarray(Image.open(lesions.parent / row.true_mask))
            counts = count_pixels(np.asarray(mask)[None] == 255, lesion[None])
            assert dice(counts)[0] > least - 0.1
    assert not (results / "work" / "spots.mask" / "vit.segmentation-linear").exists()


def test_a_stopped_trial_goes_on_and_ends_as_one_that_was_not(
    lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "protocols": ["segmentation-linear"],
        "settings": [f"segmentation-linear.{value}" for value in ("epochs=5", "batch_size=3")],
    }
    whole = run(lesions, "whole", **options)
    save, restore = training._save, training._restore
    restored = []

    def save_and_stop(path: Path, epochs: int, *state: Any) -> None:
        save(path, epochs, *state)
        if epochs == 3:
            raise KeyboardInterrupt

    def restore_and_tell(*state: Any) -> int:
        restored.append(restore(*state))
        return restored[-1]

    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(training, "_save", save_and_stop)
    monkeypatch.setattr(training, "_restore", restore_and_tell)
    with pytest.raises(KeyboardInterrupt):
        run(lesions, "stopped", **options)
    # No picture is decoded again.
    monkeypatch.setattr("dermino.evaluate.segmentation.pixels._decode", None)
    resumed = run(lesions, "stopped", **options)
    assert restored == [0, 3]
    pd.testing.assert_frame_equal(resumed, whole)
    name = "predictions/spots.mask/vit.segmentation-linear/3.png"
    masks = [np.asarray(Image.open(lesions.parent / out / name)) for out in ("whole", "stopped")]
    assert np.array_equal(*masks)


def test_maps_that_do_not_fit_the_disk_are_computed_anew(
    lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "protocols": ["segmentation-linear"],
        "settings": ["segmentation-linear.epochs=2"],
    }
    kept = run(lesions, "kept", **options)
    monkeypatch.setattr("dermino.evaluate.segmentation.feature_maps._SHARE_OF_FREE_DISK", 0.0)
    anew = run(lesions, "anew", **options)
    pd.testing.assert_frame_equal(anew, kept, rtol=1e-3)


def test_empty_masks_leave_images_undefined_with_the_reason(lesions: Path) -> None:
    empty = Image.new("L", (60, 48))
    empty.save(lesions.parent / "again" / "2_mask.png")
    options = {"protocols": ["segmentation-linear"]}
    table = run(lesions, **options)
    row = table.loc[("vit", "segmentation-linear", "hd95")]
    kept = pd.read_parquet(
        lesions.parent / "results/predictions/spots.mask/vit.segmentation-linear.parquet"
    )
    undefined = int(kept["value:hd95"].isna().sum())
    assert undefined >= 1
    assert kept["value:hd95"].isna()[2]
    assert row["note"] == (
        f"undefined for {undefined} of 8 images: the mask or the prediction is empty"
    )


def test_masks_that_cannot_be_used_are_named(lesions: Path) -> None:
    folder = lesions.parent
    good = Image.open(folder / "1_mask.png").convert("L")

    def refused(mask: Image.Image | None, message: str) -> None:
        if mask is None:
            (folder / "1_mask.png").unlink()
        else:
            mask.save(folder / "1_mask.png")
        with pytest.raises(UserError, match=message) as error:
            run(lesions, protocols=["segmentation-linear"])
        assert "1_mask.png" in str(error.value)

    refused(good.resize((30, 24), Image.Resampling.NEAREST), "has 30 x 24 pixels, its image .*60 x")
    refused(good.point(lambda value: value // 2 + 3), "2 different values .3, 130.")
    several = np.asarray(good).copy()
    several[:3] = [[1], [2], [3]]
    refused(Image.fromarray(several), "5 different values .0, 1, 2, 3, 255.")
    refused(Image.merge("RGB", [good, Image.new("L", good.size), good]), "is coloured")
    refused(None, "images are missing")
    for values in (np.asarray(good) // 255 * 7, np.asarray(good).astype(np.uint16) // 255):
        Image.fromarray(values).save(folder / "1_mask.png")
        path = folder / "1_mask.png"
        read = read_lesion_mask(path, folder / "1.png", (48, 60))
        assert np.array_equal(np.asarray(read), np.asarray(good))

    parts = ["train"] + [""] * 7 + ["test"] * 8
    Manifest.read(lesions).with_columns(split=parts).write(lesions)
    with pytest.raises(UserError, match="fewer than two training images"):
        run(lesions, protocols=["segmentation-linear"])
