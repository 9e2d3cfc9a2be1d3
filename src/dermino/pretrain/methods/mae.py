"""Masked autoencoders: rebuild three quarters of an image from the rest."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dermino.models.block import take_tokens
from dermino.models.masked_vit import CroppedVisionTransformer
from dermino.models.scratch import start_from_scratch
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.heads.pixel_decoder import PixelDecoder
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.objectives.reconstruction import patchify, reconstruction_loss
from dermino.pretrain.parameter_groups import Rule, backbone_rules, head_rules
from dermino.pretrain.schedules import StepValues
from dermino.pretrain.views.masking import FixedMasking
from dermino.pretrain.views.view import View, Views


@METHODS.register("mae")
class MAEMethod(Method):
    """He et al. 2022, "Masked autoencoders are scalable vision learners".

    The encoder sees the visible patches of one crop, a light decoder predicts the pixels of the
    others. From scratch, positions are fixed sines and cosines; with ``model.init`` they are the
    ones that come with the weights, and are trained.
    """

    recipe = "mae-vitb16"

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__(config, backbone, prototypes)
        if config.model.init is None:
            start_from_scratch(backbone)
        self.backbone = CroppedVisionTransformer(backbone, config.model.checkpoint_activations)
        self.decoder = PixelDecoder(
            backbone.embed_dim,
            backbone.patch_embed.grid_size,
            backbone.patch_embed.patch_size[0],
            config.mae.decoder_dim,
            config.mae.decoder_depth,
            config.mae.decoder_heads,
        )

    @classmethod
    def views(cls, config: PretrainConfig) -> Views:
        """One global view in its own colours, randomly masked."""
        view = View(config.views.global_size, config.views.global_scale)
        return Views((view,), masking=FixedMasking(config.mae.mask_ratio))

    def first_losses(self, batch_size: int) -> dict[str, float]:
        """Return the variance of a normalised patch and that of an untrained prediction of it."""
        if not self.config.mae.normalise_pixels:
            return {}  # The variance of the pixels of these images, which nobody knows.
        pixels, width = self.decoder.predict.out_features, self.decoder.predict.in_features
        return {"reconstruction": 1 + 2 * width / (width + pixels)}

    def forward(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Return ``reconstruction``, the error over the masked patches."""
        visible, masked = batch.split_patches()
        class_tokens, latents = self.backbone(batch.global_crops, visible, batch.global_paths)
        self.watch.features(class_tokens)
        predicted = self.decoder(class_tokens, latents, visible, masked)
        patches = patchify(batch.global_crops, self.encoder.patch_embed.patch_size[0])
        hidden = take_tokens(patches, masked)
        loss = reconstruction_loss(predicted, hidden, self.config.mae.normalise_pixels)
        return {"reconstruction": loss}

    def activations(self, batch_size: int) -> float:
        """Count the encoder's visible tokens and all of the decoder's."""
        vit, options = self.encoder, self.config.mae
        patches = vit.patch_embed.num_patches
        visible = patches - FixedMasking(options.mask_ratio).count(patches) + 1
        encoder = visible * vit.embed_dim * len(vit.blocks)
        return batch_size * (encoder + (patches + 1) * options.decoder_dim * options.decoder_depth)

    def rules(self) -> Iterator[tuple[nn.Parameter, Rule]]:
        """Yield encoder and decoder."""
        yield from backbone_rules(self.backbone, len(self.encoder.blocks), self.config.optimizer)
        yield from head_rules(self.decoder)

    def clipped(self) -> list[nn.Module]:
        """Return the whole."""
        return [self]

    @property
    def encoder(self) -> VisionTransformer:
        """The encoder; the decoder is left behind."""
        return self.backbone.vit
