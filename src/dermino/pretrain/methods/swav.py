"""SwAV: views of an image predict one another's place among learnt clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from dermino.models.masked_vit import CroppedVisionTransformer
from dermino.models.patch_selection import PatchSelection
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.distributed import all_gather, rank, world_size
from dermino.pretrain.heads.perceptron import Perceptron
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.objectives.sinkhorn import sinkhorn_knopp
from dermino.pretrain.objectives.swapped import swapped_prediction_loss
from dermino.pretrain.parameter_groups import Rule, backbone_rules, head_rules
from dermino.pretrain.schedules import StepValues
from dermino.pretrain.views.photometric import SWAV
from dermino.pretrain.views.view import View, Views


@METHODS.register("swav")
class SwAVMethod(Method):
    """Caron et al. 2020, "Unsupervised learning of visual features by contrasting assignments".

    Sinkhorn-Knopp assigns the two global views to prototypes; every other view predicts the
    assignment. There is no teacher. From ``swav.queue_start_epoch`` on, embeddings of earlier
    batches take part in the assignment once the queue is full.
    """

    recipe = "swav-vitb16"
    queue: torch.Tensor

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__(config, backbone, prototypes)
        options = config.swav
        self.backbone = CroppedVisionTransformer(backbone, config.model.checkpoint_activations)
        self.head = Perceptron(
            (backbone.embed_dim, options.hidden_dim, options.projection_dim),
            normalise_output=False,
            bias=True,
        )
        self.prototypes = nn.Linear(options.projection_dim, options.num_prototypes, bias=False)
        self._normalise_prototypes()
        queue = torch.zeros(2, options.queue_length, options.projection_dim)
        self.register_buffer("queue", queue)

    @classmethod
    def views(cls, config: PretrainConfig) -> Views:
        """Two global and several local views, all strongly coloured."""
        options = config.views
        wide = View(options.global_size, options.global_scale, SWAV)
        narrow = View(options.local_size, options.local_scale, SWAV)
        return Views((wide, wide), (narrow,) * options.local_crops)

    def first_losses(self, batch_size: int) -> dict[str, float]:
        """Return ln K, and what the spread of untrained scores, 1/D, adds to it."""
        options = self.config.swav
        spread = 1 / (options.projection_dim * options.temperature**2)
        return {"swapped": math.log(options.num_prototypes) + spread / 2}

    def forward(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Return ``swapped``, the cross-entropy between assignments and other views' scores."""
        none = PatchSelection.none(batch.masks.device)
        class_tokens, _ = self.backbone(batch.global_crops, paths=batch.global_paths, wanted=none)
        self.watch.features(class_tokens[: len(batch)])
        if len(batch.local_crops):
            local_tokens, _ = self.backbone(batch.local_crops, paths=batch.local_paths, wanted=none)
            class_tokens = torch.cat([class_tokens, local_tokens])
        embeddings = F.normalize(self.head(class_tokens), dim=1)
        scores = self.prototypes(embeddings).unflatten(0, (-1, len(batch)))
        with torch.no_grad():
            wide = embeddings[: 2 * len(batch)].float().unflatten(0, (2, -1))
            started = values.epoch >= self.config.swav.queue_start_epoch
            assignments = self._assign(scores[:2], use_queue=started)
            self.watch.assignments("image", assignments.flatten(0, 1))
            if started:
                self._enqueue(wide)
        loss = swapped_prediction_loss(scores, assignments, self.config.swav.temperature)
        return {"swapped": loss}

    def _assign(self, scores: torch.Tensor, use_queue: bool) -> torch.Tensor:
        """Return the (2, B, K) assignments of both global views, each view on its own."""
        options, size = self.config.swav, scores.shape[1]
        if use_queue and options.queue_length and bool(self.queue[0, -1].any()):
            # Every process holds the whole queue and brings its own share to Sinkhorn-Knopp.
            share = self.queue[:, rank() :: world_size()]
            scores = torch.cat([F.linear(share, self.prototypes.weight), scores.float()], dim=1)
        return torch.stack(
            [
                sinkhorn_knopp(view, options.epsilon, options.sinkhorn_iterations)[-size:]
                for view in scores
            ]
        )

    def _enqueue(self, embeddings: torch.Tensor) -> None:
        """Put the (2, B, D) embeddings of all processes before those of earlier steps."""
        new = all_gather(embeddings.transpose(0, 1)).transpose(0, 1)
        length = self.queue.shape[1]
        self.queue.copy_(torch.cat([new, self.queue], dim=1)[:, :length])

    def num_scores(self, batch_size: int) -> float:
        """Count the products of all views' embeddings with the prototypes."""
        views = 2 + self.config.views.local_crops
        return float(batch_size * views * self.config.swav.num_prototypes)

    def rules(self) -> Iterator[tuple[nn.Parameter, Rule]]:
        """Yield backbone, head and prototypes, which are frozen at first."""
        yield from backbone_rules(self.backbone, len(self.encoder.blocks), self.config.optimizer)
        yield from head_rules(self.head)
        for parameter in self.prototypes.parameters():
            yield parameter, Rule(is_last_layer=True)

    def clipped(self) -> list[nn.Module]:
        """Return backbone, head and prototypes."""
        return [self.backbone, self.head, self.prototypes]

    def after_step(self, values: StepValues) -> None:
        """Bring the prototypes back to the sphere."""
        self._normalise_prototypes()

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        weight = self.prototypes.weight
        weight.copy_(F.normalize(weight, dim=1))

    @property
    def encoder(self) -> VisionTransformer:
        """The backbone."""
        return self.backbone.vit
