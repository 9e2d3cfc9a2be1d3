"""All monitors of a run: asked at each logged step, they answer with a few figures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from dermino.data.images import UnreadableImage, read_image
from dermino.data.reference import Reference
from dermino.data.shard_cache import reader
from dermino.models.masked_vit import CroppedVisionTransformer
from dermino.models.preprocess import Preprocess
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.distributed import all_gather, rank, world_size
from dermino.pretrain.fabric import Fabric
from dermino.pretrain.method import Method
from dermino.pretrain.monitors.figures import COLLAPSE, FIGURES, signs
from dermino.pretrain.monitors.held_out import HeldOut
from dermino.pretrain.monitors.neighbours import neighbour_accuracy
from dermino.pretrain.schedules import StepValues
from dermino.progress import console

_BATCH = 64
_DECODERS = 8


class Monitors:
    """Figures on the features of a run, which they never change.

    No random number is drawn, no gradient computed, and the encoder is in evaluation mode while
    held-out images pass through it.

    Parameters
    ----------
    fabric:
        Device and precision.
    config:
        The recipe.
    method:
        What is trained.
    held_out:
        Labelled images that are not trained on; None = no k-NN.
    """

    def __init__(
        self, fabric: Fabric, config: PretrainConfig, method: Method, held_out: HeldOut | None
    ) -> None:
        self.fabric, self.config, self.method = fabric, config, method
        self.held_out = held_out if held_out is not None and len(held_out) else None
        self._images: torch.Tensor | None = None
        self._readable = torch.zeros(0, dtype=torch.bool)
        self._warned: set[str] = set()

    def read(self, step: int, values: StepValues, last: bool) -> dict[str, float]:
        """Return the figures of a logged step; every process has to ask.

        The first record and the last one hold the accuracy of the neighbours, and of those
        between the first after every ``monitor.every`` steps.

        Parameters
        ----------
        step:
            Steps done.
        values:
            The schedules of this step.
        last:
            Whether it is the run's last one.
        """
        figures = self.method.watch.read()
        logged = self.config.log_every
        turn = step // self.config.monitor.every != (step - logged) // self.config.monitor.every
        if self.held_out is not None and (turn or last or step <= logged):
            figures |= self._accuracy(self.held_out)
        # With random weights all features are alike at first, which is no collapse.
        warm = values.epoch >= self.config.optimizer.warmup_epochs
        found = signs(figures) if warm else []
        figures[COLLAPSE] = len(found)
        self._warn(step, figures, found)
        return figures

    def _warn(self, step: int, figures: dict[str, float], found: list[str]) -> None:
        """Print each sign once."""
        new = [name for name in found if name not in self._warned]
        self._warned.update(new)
        if self.fabric.is_global_zero:
            for name in new:
                figure = FIGURES[name]
                console.print(
                    f"Step {step}: a collapse is likely. {figure.title} is {figures[name]:.3g}. "
                    f"{figure.reason} summary.md will say what helps.",
                    soft_wrap=True,
                )

    def _accuracy(self, held_out: HeldOut) -> dict[str, float]:
        count = len(held_out)
        if self._images is None:
            self._images, self._readable = self._load(held_out)
        features = all_gather(self._embed(self._images))[:count]
        readable = all_gather(self._readable.to(features.device))[:count].cpu().numpy()
        classes, groups = held_out.classes[readable], held_out.groups[readable]
        if len(np.unique(classes)) < 2:
            return {}
        kept = features[torch.from_numpy(readable).to(features.device)]
        return {"knn_accuracy": neighbour_accuracy(kept, classes, groups)}

    def _load(self, held_out: HeldOut) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode this process's share once; shares are equal, so some images come twice."""
        size = -(-len(held_out) // world_size())
        rows = [row % len(held_out) for row in range(rank() * size, (rank() + 1) * size)]
        paths = [held_out.images.path(row) for row in rows]
        read = reader(self.config.data.cache, self.config.data.cache_gib)
        with ThreadPoolExecutor(_DECODERS) as pool:
            pictures = list(pool.map(partial(self._picture, read=read), paths))
        side = self.config.views.global_size
        blank = torch.zeros(3, side, side, dtype=torch.uint8)
        readable = torch.tensor([picture is not None for picture in pictures])
        return torch.stack([blank if p is None else p for p in pictures]), readable

    def _picture(self, path: Reference, read: Callable[[Reference], bytes]) -> torch.Tensor | None:
        preprocess = Preprocess.for_size(self.config.views.global_size)
        try:
            return preprocess.resize(read_image(path, preprocess.resize_size, read))
        except UnreadableImage:
            return None

    @torch.no_grad()
    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) uint8 -> (n, D) float32 of the network that is exported."""
        backbone, preprocess = self._backbone(), Preprocess()
        was_training = backbone.training
        backbone.eval()
        parts = []
        with self.fabric.autocast():
            for batch in images.split(_BATCH):
                ready = preprocess.normalise(batch.to(self.fabric.device))
                parts.append(backbone(ready)[0].float())
        backbone.train(was_training)
        return torch.cat(parts)

    def _backbone(self) -> CroppedVisionTransformer:
        """Return the module around the exported network; sharded weights are gathered by it."""
        return next(
            module
            for module in self.method.modules()
            if isinstance(module, CroppedVisionTransformer) and module.vit is self.method.encoder
        )
