"""What a pretraining method is, and the registry of all methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.parameter_groups import Rule
from dermino.pretrain.schedules import StepValues
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
    """

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Return the weighted loss terms of an augmented batch; their sum is minimised."""

    @abstractmethod
    def rules(self) -> Iterator[tuple[nn.Parameter, Rule]]:
        """Yield every trained parameter with its learning-rate and weight-decay rule."""

    @abstractmethod
    def clipped(self) -> list[nn.Module]:
        """Return the modules whose gradients are clipped, each by its own norm."""

    @abstractmethod
    def after_step(self, values: StepValues) -> None:
        """Do what follows the optimiser's step, such as moving a teacher."""

    @property
    @abstractmethod
    def encoder(self) -> VisionTransformer:
        """The backbone to export."""


METHODS: Registry[type[Method]] = Registry("method", "dermino.pretrain.methods", "dermino.methods")
