"""PanDerm: visible and hidden patches alike learn what a frozen CLIP tower sees in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dermino.models.block import take_tokens
from dermino.models.masked_vit import CroppedVisionTransformer
from dermino.models.preprocess import Preprocess
from dermino.models.scratch import start_from_scratch
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.frozen_teacher import FrozenTeacher
from dermino.pretrain.heads.latent_regressor import LatentRegressor
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.objectives.alignment import alignment_loss
from dermino.pretrain.parameter_groups import Rule, backbone_rules, head_rules
from dermino.pretrain.schedules import StepValues
from dermino.pretrain.views.masking import FixedMasking
from dermino.pretrain.views.view import View, Views


@METHODS.register("panderm")
class PanDermMethod(Method):
    """Yan et al. 2025 (PanDerm), which is Zhang et al. 2023 (CAE v2) with a large CLIP teacher.

    The encoder sees half of the patches; a cross-attention regressor predicts the latents of the
    other half. Both are drawn to the teacher's L2-normalised features by their cosine, each token
    counting alike. From scratch, positions are fixed sines and cosines; with ``model.init`` they
    come with the weights, and are trained.
    """

    recipe = "panderm-vitb16"

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__(config, backbone, prototypes)
        options, grid = config.panderm, backbone.patch_embed.grid_size
        if config.model.init is None:
            start_from_scratch(backbone)
        self.backbone = CroppedVisionTransformer(backbone, config.model.checkpoint_activations)
        self.teacher = FrozenTeacher(
            options.teacher, options.teacher_size, options.teacher_projection, grid
        )
        self.regressor = LatentRegressor(
            backbone.embed_dim,
            self.teacher.target_dim,
            grid,
            options.regressor_depth,
            backbone.blocks[0].attn.num_heads,
            options.regressor_layer_scale,
        )
        self.register_state_dict_post_hook(_leave_the_teacher_out)
        self.register_load_state_dict_post_hook(_accept_without_teacher)

    @classmethod
    def views(cls, config: PretrainConfig) -> Views:
        """One global view in its own colours, half of it masked in blocks."""
        view = View(config.views.global_size, config.views.global_scale)
        return Views((view,), masking=FixedMasking(config.panderm.mask_ratio, blocks=True))

    def first_losses(self, batch_size: int) -> dict[str, float]:
        """Return each term's share of the tokens: unrelated directions have a distance of 1."""
        patches = self.encoder.patch_embed.num_patches
        share = FixedMasking(self.config.panderm.mask_ratio).count(patches) / (patches + 1)
        return {"visible": 1 - share, "masked": share}

    def forward(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Return ``visible`` (with the class token) and ``masked``, weighted by their tokens."""
        visible, masked = batch.split_patches()
        features = self.teacher(Preprocess().denormalise(batch.global_crops))
        class_features, patch_features = features[:, :1], features[:, 1:]
        class_tokens, latents = self.backbone(batch.global_crops, visible, batch.global_paths)
        self.watch.features(class_tokens)
        seen, predicted = self.regressor(class_tokens, latents, visible, masked)
        seen_features = torch.cat([class_features, take_tokens(patch_features, visible)], dim=1)
        share = masked.shape[1] / features.shape[1]
        return {
            "visible": (1 - share) * alignment_loss(seen, seen_features),
            "masked": share * alignment_loss(predicted, take_tokens(patch_features, masked)),
        }

    def activations(self, batch_size: int) -> float:
        """Count the encoder's visible tokens and the regressor's masked ones."""
        vit, options = self.encoder, self.config.panderm
        patches = vit.patch_embed.num_patches
        masked = FixedMasking(options.mask_ratio).count(patches)
        blocks = (patches - masked + 1) * len(vit.blocks) + masked * options.regressor_depth
        return batch_size * blocks * vit.embed_dim

    def rules(self) -> Iterator[tuple[nn.Parameter, Rule]]:
        """Yield encoder and regressor."""
        yield from backbone_rules(self.backbone, len(self.encoder.blocks), self.config.optimizer)
        yield from head_rules(self.regressor)

    def clipped(self) -> list[nn.Module]:
        """Return the whole; the teacher has no gradient."""
        return [self]

    @property
    def encoder(self) -> VisionTransformer:
        """The encoder; regressor and teacher are left behind."""
        return self.backbone.vit


# The teacher comes from where it came from; in every checkpoint it would outweigh the student.
def _leave_the_teacher_out(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}teacher.")]:
        del state[key]


def _accept_without_teacher(module: nn.Module, incompatible: Any) -> None:
    missing = incompatible.missing_keys
    missing[:] = [key for key in missing if not key.startswith("teacher.")]
