"""What a pretraining method is, and the registry of all methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.monitors.watch import Watch
from dermino.pretrain.parameter_groups import Rule
from dermino.pretrain.schedules import StepValues
from dermino.pretrain.views.view import Views
from dermino.registry import Registry


class Method(nn.Module, ABC):
    """A way of pretraining a timm vision transformer.

    Parameters
    ----------
    config:
        The recipe.
    backbone:
        The vision transformer to start from.
    prototypes:
        (C, D) W_init of Eq. 7 for methods that use labels; None = no labels.

    Attributes
    ----------
    recipe:
        The shipped recipe to take when none is named.
    uses_labels:
        Whether a taxonomy changes anything.
    fewest_images:
        That :meth:`forward` can take, over all devices.
    watch:
        Where :meth:`forward` shows features and assignments to the monitors.
    """

    recipe: ClassVar[str]
    uses_labels: ClassVar[bool] = False
    fewest_images: ClassVar[int] = 1

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.watch = Watch(config.accumulate_grad_batches)

    @classmethod
    @abstractmethod
    def views(cls, config: PretrainConfig) -> Views:
        """Return what the loader has to prepare of each image."""

    @abstractmethod
    def first_losses(self, batch_size: int) -> dict[str, float]:
        """Return about where loss terms start, whatever the backbone's weights.

        A term far from it at the first step tells of wrong weights or data. Terms whose start
        depends on the features are left out.

        Parameters
        ----------
        batch_size:
            Images of one forward pass over all devices.

        Returns
        -------
        Values under the names that :meth:`forward` gives the terms, weighted as there.
        """

    @abstractmethod
    def forward(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Return the weighted loss terms of an augmented batch; their sum is minimised."""

    @abstractmethod
    def rules(self) -> Iterator[tuple[nn.Parameter, Rule]]:
        """Yield every trained parameter with its learning-rate and weight-decay rule."""

    @abstractmethod
    def clipped(self) -> list[nn.Module]:
        """Return the modules whose gradients are clipped, each by its own norm."""

    def after_step(self, values: StepValues) -> None:
        """Do what follows the optimiser's step, such as moving a teacher."""

    def activations(self, batch_size: int) -> float:
        """Count tokens x channels x blocks that ``batch_size`` images leave for backward."""
        vit, views = self.encoder, self.views(self.config).all
        patch_size = vit.patch_embed.patch_size[0]
        tokens = sum((view.size // patch_size) ** 2 + 1 for view in views)
        return batch_size * tokens * vit.embed_dim * len(vit.blocks)

    def num_scores(self, batch_size: int) -> float:
        """Count the logits that ``batch_size`` images leave for backward."""
        return 0.0

    @property
    def num_concepts(self) -> int:
        """Columns C of the labels that :meth:`forward` asks for; 0 = it asks for none."""
        return 0

    @property
    @abstractmethod
    def encoder(self) -> VisionTransformer:
        """The backbone to export."""


METHODS: Registry[type[Method]] = Registry("method", "dermino.pretrain.methods", "dermino.methods")
