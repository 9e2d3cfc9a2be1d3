"""Crops, colours and masks: against torchvision where it has the operation, by statistics else."""

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dermino.pretrain.views.crops import cut, draw_crop, random_box, sufficient_side
from dermino.pretrain.views.masking import block_mask, masked_patch_targets
from dermino.pretrain.views.photometric import (
    DINOV2,
    MOCOV3,
    NUM_PARAMETERS,
    SWAV,
    Photometric,
    apply_photometric,
    draw_photometric,
)

BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAY, SIGMA, SOLARIZE, RADIUS = range(NUM_PARAMETERS)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 24, 20), generator=torch.Generator().manual_seed(0)).byte()


# What seed 1 drew for the views of DINOv2 before other methods had views of their own.
PINNED = np.float32(
    [
        [0, 0, 0, 0, -1, 1, 0, 0, 0],
        [1.1259514, 0.9766885, 0.87332076, 0.03080694, 9, 0, 1.5062883, 0, 4],
        [1.3947313, 1.0059279, 0.9148507, -0.019506134, 5, 0, 0.8691955, 0, 4],
    ]
)


def parameters(count: int, **values: float) -> torch.Tensor:
    rows = torch.zeros(count, NUM_PARAMETERS)
    rows[:, ORDER] = -1
    for name, value in values.items():
        rows[:, globals()[name]] = value
    return rows


def test_color_jitter_equals_torchvision_in_the_order_drawn(images: torch.Tensor) -> None:
    drawn = parameters(3, BRIGHTNESS=1.3, CONTRAST=0.7, SATURATION=1.15, HUE=-0.07, ORDER=0)
    drawn[1, ORDER], drawn[2, ORDER] = 23, -1
    steps = [
        lambda x: F.adjust_brightness(x, 1.3),
        lambda x: F.adjust_contrast(x, 0.7),
        lambda x: F.adjust_saturation(x, 1.15),
        lambda x: F.adjust_hue(x, -0.07),
    ]
    first = second = images.float() / 255
    for step in steps:
        first = step(first)
    for step in reversed(steps):
        second = step(second)
    ours = apply_photometric(images, drawn)
    torch.testing.assert_close(ours[0], first[0], atol=2e-4, rtol=0)
    torch.testing.assert_close(ours[1], second[1], atol=2e-4, rtol=0)
    torch.testing.assert_close(ours[2], images[2].float() / 255)


def test_gray_blur_and_solarize_equal_torchvision(images: torch.Tensor) -> None:
    scaled = images.float() / 255
    gray = apply_photometric(images, parameters(3, GRAY=1))
    torch.testing.assert_close(gray, F.rgb_to_grayscale(scaled, 3), atol=1e-3, rtol=0)
    drawn = parameters(3)
    drawn[:, SIGMA] = torch.tensor([0.3, 1.0, 2.0])
    drawn[:, RADIUS] = torch.tensor([4, 6, 4])
    blurred = apply_photometric(images, drawn)
    for i, (sigma, kernel) in enumerate([(0.3, 9), (1.0, 13), (2.0, 9)]):
        expected = F.gaussian_blur(scaled[i : i + 1], [kernel, kernel], [sigma, sigma])
        torch.testing.assert_close(blurred[i : i + 1], expected, atol=1e-4, rtol=0)
    solarized = apply_photometric(images, parameters(3, SOLARIZE=1))
    torch.testing.assert_close(solarized, F.solarize(scaled, 128 / 255))


@pytest.mark.parametrize(
    ("policy", "blur", "solarize", "brightness", "hue"),
    [
        (DINOV2["effective"][0], 0.0, 0.0, 0.4, 0.1),
        (DINOV2["effective"][1], 0.9, 0.2, 0.4, 0.1),
        (DINOV2["effective"][2], 0.5, 0.0, 0.4, 0.1),
        (DINOV2["as_written"][0], 1.0, 0.0, 0.4, 0.1),
        (DINOV2["as_written"][1], 0.1, 0.2, 0.4, 0.1),
        (DINOV2["as_written"][2], 0.5, 0.0, 0.4, 0.1),
        (MOCOV3[0], 1.0, 0.0, 0.4, 0.1),
        (MOCOV3[1], 0.1, 0.2, 0.4, 0.1),
        (SWAV, 0.5, 0.0, 0.8, 0.2),
    ],
)
def test_augmentations_occur_as_often_and_as_strongly_as_published(
    policy: Photometric, blur: float, solarize: float, brightness: float, hue: float
) -> None:
    random = np.random.default_rng(0)
    drawn = np.stack([draw_photometric(policy, random) for _ in range(4000)])
    share = (drawn[:, [ORDER, GRAY, SIGMA, SOLARIZE]] > [-0.5, 0, 0, 0]).mean(axis=0)
    np.testing.assert_allclose(share, [0.8, 0.2, blur, solarize], atol=0.03)
    jittered = drawn[drawn[:, ORDER] >= 0]
    np.testing.assert_allclose(jittered[:, BRIGHTNESS].mean(), 1.0, atol=0.03)
    np.testing.assert_allclose(jittered[:, BRIGHTNESS].std(), 2 * brightness / 12**0.5, rtol=0.03)
    np.testing.assert_allclose(jittered[:, HUE].std(), 2 * hue / 12**0.5, rtol=0.03)


def test_dinov2s_numbers_stay_what_they_were() -> None:
    drawn = [
        draw_photometric(policy, np.random.Generator(np.random.Philox(key=[258, number])))
        for number, policy in enumerate(DINOV2["effective"])
    ]
    np.testing.assert_array_equal(np.stack(drawn), PINNED)


def test_boxes_are_distributed_as_torchvisions() -> None:
    random, image = np.random.default_rng(0), torch.empty(3, 90, 140)
    torch.manual_seed(0)
    ours = np.array([random_box(90, 140, (0.05, 0.32), random) for _ in range(4000)])
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.05, 0.32], [3 / 4, 4 / 3]) for _ in range(4000)]
    )
    spread = theirs.std(axis=0)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 0.08 * spread).all()
    np.testing.assert_allclose(ours.std(axis=0), spread, rtol=0.06)


def test_crops_have_the_pixels_of_torchvisions_whatever_the_memory_format() -> None:
    random = np.random.default_rng(0)
    planar = torch.randint(0, 256, (3, 90, 140), dtype=torch.uint8)
    image = planar.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    crops = [draw_crop((90, 140), 32, (0.05, 1.0), random) for _ in range(20)]
    assert {crop.flipped for crop in crops} == {False, True}
    for view, crop in zip(cut(image, crops), crops, strict=True):
        expected = F.resized_crop(planar, *crop.box, [32, 32], InterpolationMode.BICUBIC)
        assert view.equal(expected.flip(-1) if crop.flipped else expected)
    assert cut(planar, crops).equal(cut(image, crops))


def test_crops_are_uint8_squares_even_of_a_sliver() -> None:
    sliver = torch.randint(0, 255, (3, 5, 300), dtype=torch.uint8)
    crops = [draw_crop((5, 300), 32, (0.32, 1.0), np.random.default_rng(0))]
    for image in (sliver, sliver[:, :1, :38]):
        assert cut(image, crops).shape == (1, 3, 32, 32)
    assert cut(sliver, []).shape == (0, 3, 0, 0)


def test_a_reduced_picture_gives_the_same_crops_and_enlarges_none() -> None:
    random = np.random.default_rng(0)
    noise = torch.from_numpy(random.integers(0, 256, (3, 6, 8), dtype=np.uint8))
    sizes = {reduction: (900 // reduction, 1200 // reduction) for reduction in (1, 2, 4)}
    pictures = {
        reduction: F.resize(noise, list(size), InterpolationMode.BICUBIC)
        for reduction, size in sizes.items()
    }
    chosen = []
    for _ in range(30):
        crops = [draw_crop(sizes[1], 64, (0.05, 1.0), random) for _ in range(3)]
        side = sufficient_side(crops)
        chosen.append(max(reduction for reduction, size in sizes.items() if min(size) >= side))
        boxes = [crop.box_at(*sizes[chosen[-1]]) for crop in crops]
        assert min(min(box[2:]) for box in boxes) >= 64
        difference = cut(pictures[chosen[-1]], crops).int() - cut(pictures[1], crops).int()
        assert difference.abs().float().mean() < 3  # the boxes are rounded to whole pixels
    assert set(chosen) == {2, 4}


def test_half_the_crops_are_masked_with_targets_spread_over_the_range() -> None:
    random = np.random.default_rng(0)
    targets = masked_patch_targets(64, 256, 0.5, (0.1, 0.5), random)
    masked = np.sort(targets[targets > 0])
    assert len(masked) == 32
    edges = 256 * np.linspace(0.1, 0.5, 33)
    assert ((masked >= np.floor(edges[:-1])) & (masked <= edges[1:])).all()


def test_block_masks_come_within_two_patches_of_their_target() -> None:
    random = np.random.default_rng(0)
    for target in (26, 51, 77, 102, 128):
        counts = [block_mask((16, 16), target, random).sum() for _ in range(200)]
        assert max(counts) <= target
        assert np.mean(counts) > target - 2
    assert block_mask((16, 16), 0, random).sum() == 0


def test_a_block_covers_at_most_half_the_rows_of_an_odd_grid() -> None:
    class Largest:
        """Draws 1: the largest block, as square as the grid allows."""

        def random(self) -> float:
            return 1.0

        def uniform(self, low: float, high: float) -> float:
            return 0.0

        def integers(self, low: int, high: int) -> int:
            return low

    # DINOv2 (train.py) allows 0.5 * 210 // 14 * 210 // 14 = 105 patches, not int(225 / 2) = 112:
    # 10 x 10 patches, not the 11 x 11 that would round up from 112.
    assert block_mask((15, 15), 225, Largest()).sum() == 100  # type: ignore[arg-type]
