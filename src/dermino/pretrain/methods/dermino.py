"""The paper's hybrid pretraining: DINOv2, and disease prototypes on the labels there are."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dermino.models.masked_vit import MaskedVisionTransformer
from dermino.models.patch_selection import PatchSelection
from dermino.models.projection_head import ProjectionHead
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.moving_average import move_average
from dermino.pretrain.objectives.centering import SoftmaxCentering
from dermino.pretrain.objectives.image import image_loss
from dermino.pretrain.objectives.knowledge import DiseasePrototypes, knowledge_loss
from dermino.pretrain.objectives.koleo import koleo_loss
from dermino.pretrain.objectives.patch import patch_loss
from dermino.pretrain.objectives.sinkhorn import sinkhorn_knopp
from dermino.pretrain.parameter_groups import Rule, backbone_rules, head_rules
from dermino.pretrain.schedules import StepValues
from dermino.pretrain.views.masking import BlockMasking
from dermino.pretrain.views.photometric import DINOV2
from dermino.pretrain.views.view import View, Views


class SelfDistillation(nn.Module):
    """Backbone and the two heads: what student and teacher both have."""

    def __init__(self, config: PretrainConfig, backbone: VisionTransformer) -> None:
        super().__init__()
        self.backbone = MaskedVisionTransformer(backbone, config.model.checkpoint_activations)
        head = config.head.model_dump()
        self.image_head = ProjectionHead(self.backbone.embed_dim, **head)
        self.patch_head = ProjectionHead(self.backbone.embed_dim, **head)


@METHODS.register("dermino")
class DerminoMethod(Method):
    """Eq. 1 to 7 and KoLeo (paper section 4.1).

    The student sees masked global crops and local crops, the teacher (a moving average of the
    student) the global crops whole. Loss terms: ``image_global`` (Eq. 1), ``image_local`` (Eq. 2),
    ``patch`` (Eq. 4), ``koleo``, ``knowledge`` (Eq. 6, absent without a taxonomy).
    """

    recipe = "dermino-vitb14"
    uses_labels = True

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__(config, backbone, prototypes)
        self.student = SelfDistillation(config, backbone)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.prototypes = self._build_prototypes(prototypes)
        if config.loss.centering == "softmax":
            self.image_centering = SoftmaxCentering(config.head.num_prototypes)
            self.patch_centering = SoftmaxCentering(config.head.num_prototypes)

    @classmethod
    def views(cls, config: PretrainConfig) -> Views:
        """Two global views, partly masked, and local ones, coloured as in DINOv2."""
        options = config.views
        first, second, local = DINOV2[options.blur]
        return Views(
            tuple(
                View(options.global_size, options.global_scale, policy)
                for policy in (first, second)
            ),
            (View(options.local_size, options.local_scale, local),) * options.local_crops,
            BlockMasking(config.masking.probability, config.masking.ratio),
        )

    def first_losses(self, batch_size: int) -> dict[str, float]:
        """Return the share that each cross-entropy over the prototypes has in its term.

        An untrained head's scores are cosines of unrelated directions, of variance 1/D at the
        bottleneck: their cross-entropy is about ln K + 1 / (2 D T^2), a little less where
        student and teacher are already of one mind. KoLeo and the knowledge term start where the
        features have them, which is anywhere.
        """
        options, loss = self.config, self.config.loss
        spread = 1 / (2 * options.head.bottleneck_dim * loss.student_temp**2)
        entropy = math.log(options.head.num_prototypes) + spread
        # As in image_loss: 2 global pairs and two for each local crop, one where there is none.
        local_pairs = 2 * options.views.local_crops
        pairs = 2 + max(local_pairs, 1)
        return {
            "image_global": loss.image * entropy * 2 / pairs,
            "image_local": loss.image * entropy * local_pairs / pairs,
            "patch": loss.patch * entropy * options.masking.probability,
        }

    def num_scores(self, batch_size: int) -> float:
        """Count the prototype scores of class tokens and of masked patches, of both networks."""
        options = self.config
        patch_size = self.encoder.patch_embed.patch_size[0]
        patches = (options.views.global_size // patch_size) ** 2
        share = options.masking.probability * sum(options.masking.ratio) / 2
        tokens = 4 + options.views.local_crops + 2 * 2 * patches * share
        return batch_size * tokens * options.head.num_prototypes

    def _build_prototypes(self, initial: torch.Tensor | None) -> DiseasePrototypes | None:
        if initial is None or self.config.loss.knowledge == 0:
            return None
        options = self.config.prototypes
        return DiseasePrototypes(initial, options.learnable, options.bias)

    def train(self, mode: bool = True) -> DerminoMethod:
        """Set the mode of the student; the teacher never drops a path."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Return the loss terms of a batch."""
        loss, size = self.config.loss, len(batch)
        image_targets, patch_targets = self._teach(batch, values.teacher_temp)

        class_tokens, local_tokens, patches = self._learn(batch)
        heads_input = torch.cat([class_tokens, local_tokens])
        scores = self.student.image_head(heads_input).unflatten(0, (-1, size))
        local_scores = scores[2:] if len(batch.local_crops) else None
        image_global, image_local = image_loss(
            scores[:2], local_scores, image_targets, loss.student_temp, loss.pairing
        )
        terms = {
            "image_global": loss.image * image_global,
            "image_local": loss.image * image_local,
            "patch": loss.patch
            * patch_loss(
                self.student.patch_head(patches), patch_targets, batch.masks, loss.student_temp
            ),
            "koleo": loss.koleo
            * torch.stack(
                [koleo_loss(crop, loss.koleo_gather) for crop in class_tokens.chunk(2)]
            ).sum(),
        }
        if self.prototypes is not None:
            logits = self.prototypes(class_tokens)
            self.watch.choices("disease", logits)
            targets, known = batch.targets.repeat(2, 1), batch.known.repeat(2, 1)
            labelled = None if batch.labelled is None else 2 * batch.labelled
            terms["knowledge"] = loss.knowledge * knowledge_loss(
                logits, targets, known, self.config.prototypes.reduction, labelled
            )
        return terms

    def _learn(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the student's (., D) tokens: of global crops, local crops and masked patches."""
        backbone, no_patches = self.student.backbone, PatchSelection.none(batch.masks.device)
        with backbone.passes_of_one_step():
            class_tokens, patches = backbone(
                batch.global_crops, batch.masks, batch.global_paths, batch.masked
            )
            local_tokens = class_tokens[:0]
            if len(batch.local_crops):
                local_tokens, _ = backbone(
                    batch.local_crops, paths=batch.local_paths, wanted=no_patches
                )
        return class_tokens, local_tokens, patches

    @torch.no_grad()
    def _teach(self, batch: Batch, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the teacher's assignments: (2, B, K) of crops and (M, K) of masked patches."""
        class_tokens, patches = self.teacher.backbone(batch.global_crops, wanted=batch.masked)
        image_logits = self.teacher.image_head(class_tokens)
        patch_logits = self.teacher.patch_head(patches)
        if self.config.loss.centering == "softmax":
            image_targets = self.image_centering(image_logits, temperature)
            patch_targets = self.patch_centering(patch_logits, temperature)
        else:
            image_targets = sinkhorn_knopp(image_logits, temperature)
            patch_targets = sinkhorn_knopp(patch_logits, temperature)
        self.watch.features(class_tokens[: len(batch)])
        self.watch.assignments("image", image_targets)
        self.watch.assignments("patch", patch_targets)
        return image_targets.unflatten(0, (2, -1)), patch_targets

    def rules(self) -> Iterator[tuple[nn.Parameter, Rule]]:
        """Yield the student's parameters; the prototypes have no weight decay."""
        student = self.student
        blocks = len(student.backbone.vit.blocks)
        yield from backbone_rules(student.backbone, blocks, self.config.optimizer)
        yield from head_rules(student.image_head, student.patch_head)
        if self.prototypes is not None:
            for parameter in self.prototypes.parameters():
                yield parameter, Rule(self.config.prototypes.lr_multiplier, 0.0)

    def clipped(self) -> list[nn.Module]:
        """Return backbone and heads, as DINOv2 clips them, and the prototypes."""
        modules = [self.student.backbone, self.student.image_head, self.student.patch_head]
        return [*modules, self.prototypes] if self.prototypes is not None else list(modules)

    def after_step(self, values: StepValues) -> None:
        """Move the teacher: t = m t + (1 - m) s."""
        move_average(self.teacher, self.student, values.momentum)

    @property
    def num_concepts(self) -> int:
        """Rows of the disease prototypes."""
        return 0 if self.prototypes is None else len(self.prototypes.weight)

    @property
    def encoder(self) -> VisionTransformer:
        """The teacher's backbone."""
        return self.teacher.backbone.vit
