"""MoCo v3: two views of an image recognise each other among all images of the batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dermino.models.masked_vit import CroppedVisionTransformer
from dermino.models.patch_selection import PatchSelection
from dermino.models.scratch import start_from_scratch
from dermino.models.stochastic_depth import Paths
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.heads.perceptron import Perceptron
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.moving_average import move_average
from dermino.pretrain.objectives.contrastive import contrastive_loss
from dermino.pretrain.parameter_groups import Rule, backbone_rules
from dermino.pretrain.schedules import StepValues
from dermino.pretrain.views.photometric import MOCOV3
from dermino.pretrain.views.view import View, Views


class KeyEncoder(nn.Module):
    """Backbone and projector: what query and momentum encoder both have."""

    def __init__(self, config: PretrainConfig, backbone: VisionTransformer) -> None:
        super().__init__()
        options = config.mocov3
        self.backbone = CroppedVisionTransformer(backbone, config.model.checkpoint_activations)
        widths = (backbone.embed_dim, options.hidden_dim, options.hidden_dim)
        self.projector = Perceptron(
            (*widths, options.projection_dim), normalise_output=True, bias=False
        )

    def forward(
        self, crops: torch.Tensor, paths: Paths | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(2B, 3, H, W) -> (2B, D) class tokens, and what the projector makes of each view's.

        The two projections, (B, projection_dim), are normalised within their own view.
        """
        no_patches = PatchSelection.none(crops.device)
        class_tokens, _ = self.backbone(crops, paths=paths, wanted=no_patches)
        return class_tokens, [self.projector(tokens) for tokens in class_tokens.chunk(2)]


@METHODS.register("mocov3")
class MoCoV3Method(Method):
    """Chen, Xie and He 2021, "An empirical study of training self-supervised vision transformers".

    Queries pass through a predictor; keys come from a moving average of the query encoder. The
    patch projection stays as it starts, for the stability of the transformer (section 4.2): random
    from scratch, with ``model.init`` that of the weights. From scratch, positions are fixed sines
    and cosines; with ``model.init`` they come with the weights, and are trained.
    """

    recipe = "mocov3-vitb16"
    fewest_images = 2  # A batch normalisation of one row has no variance.

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__(config, backbone, prototypes)
        options = config.mocov3
        if config.model.init is None:
            start_from_scratch(backbone, separate_qkv=True)
        if options.freeze_patch_embed:
            backbone.patch_embed.requires_grad_(False)
        self.query_encoder = KeyEncoder(config, backbone)
        self.predictor = Perceptron(
            (options.projection_dim, options.hidden_dim, options.projection_dim),
            normalise_output=True,
            bias=False,
        )
        self.key_encoder = copy.deepcopy(self.query_encoder).requires_grad_(False)

    @classmethod
    def views(cls, config: PretrainConfig) -> Views:
        """Two global views with BYOL's unequal blur and solarisation."""
        options = config.views
        return Views(tuple(View(options.global_size, options.global_scale, p) for p in MOCOV3))

    def first_losses(self, batch_size: int) -> dict[str, float]:
        """Return 2 times 2 tau ln(images): both directions, had all keys equal chances."""
        return {"contrast": 4 * self.config.mocov3.temperature * math.log(batch_size)}

    def train(self, mode: bool = True) -> MoCoV3Method:
        """Set the mode; keys never drop a path, but are normalised by their own batch."""
        super().train(mode)
        self.key_encoder.backbone.eval()
        return self

    def forward(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Return ``contrast``, symmetric in the two views."""
        temperature = self.config.mocov3.temperature
        class_tokens, queries = self.query_encoder(batch.global_crops, batch.global_paths)
        self.watch.features(class_tokens[: len(batch)])
        first, second = (self.predictor(query) for query in queries)
        with torch.no_grad():
            _, (first_key, second_key) = self.key_encoder(batch.global_crops)
        return {
            "contrast": contrastive_loss(first, second_key, temperature)
            + contrastive_loss(second, first_key, temperature)
        }

    def num_scores(self, batch_size: int) -> float:
        """Count the products of two views' queries with the keys of one device."""
        return 2.0 * batch_size**2

    def rules(self) -> Iterator[tuple[nn.Parameter, Rule]]:
        """Yield query encoder and predictor; as in the paper's code, everything decays."""
        backbone = self.query_encoder.backbone
        for parameter, rule in backbone_rules(
            backbone, len(backbone.vit.blocks), self.config.optimizer
        ):
            yield parameter, Rule(rule.lr_multiplier)
        for head in (self.query_encoder.projector, self.predictor):
            for parameter in head.parameters():
                yield parameter, Rule()

    def clipped(self) -> list[nn.Module]:
        """Return query encoder and predictor."""
        return [self.query_encoder, self.predictor]

    def after_step(self, values: StepValues) -> None:
        """Move the key encoder."""
        move_average(self.key_encoder, self.query_encoder, values.momentum)

    @property
    def encoder(self) -> VisionTransformer:
        """The query encoder's backbone."""
        return self.query_encoder.backbone.vit
