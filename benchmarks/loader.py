"""Images per second and core: DINOv2's usual loader against dermino's, in one process.

Run: python benchmarks/loader.py [--images 16] [--large 4] [--rounds 7] [--folder JPEGS]
Both read JPEG files, make 2 views of 224 px and 8 of 98 px of each and stack them, without masks.
The usual loader ends with coloured float tensors, dermino's with uint8 crops and the numbers of
their colours; what these then cost on the device is timed apart, here on the same core.
CPU seconds on one core; the loaders take turns; medians of the rounds.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import ParamSpec, TypeVar

import pandas as pd
import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from dermino.data.generate import population, render
from dermino.data.manifest import Manifest
from dermino.pretrain import dataset as dataset_module
from dermino.pretrain.batch import Batch, Collate
from dermino.pretrain.dataset import PretrainDataset
from dermino.pretrain.views.photometric import DINOV2
from dermino.pretrain.views.view import View, Views

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

GLOBAL, LOCAL, LOCAL_CROPS = 224, 98, 8
GLOBAL_SCALE, LOCAL_SCALE = (0.32, 1.0), (0.05, 0.32)
QUALITY = 90
FIRST, SECOND, OTHERS = DINOV2["effective"]
VIEWS = Views(
    (View(GLOBAL, GLOBAL_SCALE, FIRST), View(GLOBAL, GLOBAL_SCALE, SECOND)),
    (View(LOCAL, LOCAL_SCALE, OTHERS),) * LOCAL_CROPS,
)


class Clock:
    """CPU seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(
        self, part: str, function: Callable[Parameters, Result]
    ) -> Callable[Parameters, Result]:
        """Return the function with its time counted under ``part``."""

        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            start = time.process_time()
            result = function(*args, **kwargs)
            self.seconds[part] += time.process_time() - start
            return result

        return call

    def take(self) -> Counter[str]:
        """Return what was counted and start again."""
        seconds, self.seconds = self.seconds, Counter()
        return seconds


class UsualLoader:
    """DINOv2's augmentation, as its published models were trained: torchvision on Pillow images."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.clock = Clock()
        self.read = self.clock.timed("decode", _open_with_pillow)
        crops = [_random_crop(GLOBAL, GLOBAL_SCALE)] * 2
        crops += [_random_crop(LOCAL, LOCAL_SCALE)] * LOCAL_CROPS
        self.crops = [self.clock.timed("crop and resize", crop) for crop in crops]
        solarize = transforms.RandomSolarize(threshold=128, p=0.2)
        self.colors = [_color(0.0), _color(0.9, solarize)] + [_color(0.5)] * LOCAL_CROPS

    def load(self) -> list[torch.Tensor]:
        """Load all images as a batch of each view."""
        views: list[list[torch.Tensor]] = [[] for _ in self.crops]
        for path in self.paths:
            image = self.read(path)
            for view, crop, color in zip(views, self.crops, self.colors, strict=True):
                view.append(color(crop(image)))
        return [
            torch.stack([crop for view in part for crop in view]) for part in (views[:2], views[2:])
        ]


def _open_with_pillow(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def _random_crop(size: int, scale: tuple[float, float]) -> transforms.Compose:
    bicubic = transforms.InterpolationMode.BICUBIC
    crop = transforms.RandomResizedCrop(size, scale=scale, interpolation=bicubic)
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(0.5)])


def _color(blur: float, *more: torch.nn.Module) -> transforms.Compose:
    jitter = transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)
    return transforms.Compose(
        [
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([transforms.GaussianBlur(9, (0.1, 2.0))], p=blur),
            *more,
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


class DerminoLoader:
    """What a loader process of ``dermino pretrain`` runs; every round is a new epoch."""

    def __init__(self, paths: list[Path]) -> None:
        frame = pd.DataFrame({"image": [path.name for path in paths], "dataset": "benchmark"})
        manifest = Manifest.from_frame(frame, paths[0].parent)
        self.dataset = PretrainDataset(manifest, VIEWS, 14, len(paths), seed=0)
        self.collate = Collate(None)
        self.position = 0
        self.clock = Clock()
        dataset_module.decode = self.clock.timed("decode", _DECODE)
        dataset_module.cut = self.clock.timed("crop and resize", _CUT)

    def load(self) -> Batch:
        """Load all images as one batch."""
        first, self.position = self.position, self.position + len(self.dataset.manifest)
        return self.collate([self.dataset[place] for place in range(first, self.position)])


_DECODE, _CUT = dataset_module.decode, dataset_module.cut


def draw_photographs(folder: Path, width: int, number: int) -> list[Path]:
    """Draw skin, cut to 4:3 and written as JPEG."""
    margin = width // 8
    paths = []
    for place, case in enumerate(islice(population(0, width), number)):
        paths.append(folder / f"{width}-{place}.jpg")
        pixels, _ = render(case)
        upper = Image.fromarray(pixels).crop((0, margin, width, margin + width * 3 // 4))
        upper.save(paths[-1], quality=QUALITY)
    return paths


def compare(paths: list[Path], rounds: int) -> None:
    sizes = {Image.open(path).size for path in paths}
    kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1000
    names = ", ".join(f"{height}x{width}" for width, height in sorted(sizes)[:3])
    print(f"\n{len(paths)} files of {names}, {kilobytes:.0f} kB on average")
    loaders = {"usual": UsualLoader(paths), "dermino": DerminoLoader(paths)}
    clock = Clock()
    parts: dict[str, list[Counter[str]]] = {"usual": [], "dermino": [], "device": []}
    for _ in range(rounds + 1):
        for name, loader in loaders.items():
            loaded = clock.timed("all", loader.load)()
            parts[name].append(clock.take() + loader.clock.take())
        assert isinstance(loaded, Batch)
        clock.timed("all", loaded.augmented)()
        parts["device"].append(clock.take())
    speed = {}
    for name, counted in parts.items():
        del counted[0]  # the first round is for warming up
        total = [seconds["all"] for seconds in counted]
        speed[name] = len(paths) / median(total)
        line = f"{name:8} {speed[name]:7.1f} images/s"
        line += f" ({len(paths) / max(total):.1f} to {len(paths) / min(total):.1f})"
        if name in loaders:
            shares = {
                part: median(seconds[part] / seconds["all"] for seconds in counted)
                for part in ("decode", "crop and resize")
            }
            shares["rest"] = 1 - sum(shares.values())
            line += "".join(f", {part} {share:.0%}" for part, share in shares.items())
        else:
            line += ", colours of dermino's batches, on this core"
        print(line)
    print(f"ratio    {speed['dermino'] / speed['usual']:7.1f}", end="")
    both = 1 / (1 / speed["dermino"] + 1 / speed["device"])
    print(f" (with the device's share on this core too: {both / speed['usual']:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16, help="files of 450x600 pixels")
    parser.add_argument("--large", type=int, default=4, help="files of 2250x3000 pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="measure on the JPEG files in here instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, Pillow {PIL.__version__}, one core, one thread"
    )
    if options.folder:
        compare(sorted(options.folder.glob("*.jpg")), options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        for width, number in ((600, options.images), (3000, options.large)):
            compare(draw_photographs(Path(folder), width, number), options.rounds)


if __name__ == "__main__":
    main()
