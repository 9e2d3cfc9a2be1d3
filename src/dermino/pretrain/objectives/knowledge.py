"""Supervision by disease prototypes, on the labels an image happens to have."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from dermino.pretrain.distributed import all_reduce_sum, world_size

Reduction = Literal["labelled_crops", "all_crops"]


class DiseasePrototypes(nn.Module):
    """The prototypes W of Eq. 5: one row a concept, started from text embeddings (Eq. 7).

    Parameters
    ----------
    initial:
        (C, D) W_init.
    learnable:
        Whether the optimiser moves them. The paper says so; in the authors' code they stay fixed.
    bias:
        Add a bias started at zero, as the authors' code does; Eq. 5 has none.
    """

    bias: nn.Parameter | None

    def __init__(self, initial: torch.Tensor, learnable: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(initial.clone(), requires_grad=learnable)
        self.register_parameter(
            "bias",
            nn.Parameter(torch.zeros(len(initial)), requires_grad=learnable) if bias else None,
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, C) logits of (B, D) class tokens; Eq. 5 is their sigmoid."""
        return F.linear(features, self.weight, self.bias)


def knowledge_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    known: torch.Tensor,
    reduction: Reduction = "labelled_crops",
    labelled: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Return Eq. 6 averaged over the batch.

    .. math::
        L_{sup} = -\frac{1}{N_g} \sum_i \frac{1}{\sum_j n_{ij}} \sum_j n_{ij}
        \left( y_{ij} \log p'_{ij} + (1 - y_{ij}) \log (1 - p'_{ij}) \right)

    Parameters
    ----------
    logits:
        (crops, C) before the sigmoid.
    targets:
        (crops, C) y in [0, 1].
    known:
        (crops, C) n: 1 where the label's relevance is known, 0 elsewhere; all 0 = unlabelled.
    reduction:
        ``labelled_crops`` divides by the crops of all processes that have any known label
        (default; a rarely labelled archive keeps its signal), ``all_crops`` by all of them (Eq. 6
        to the letter).
        Without any labelled crop the loss is zero, still connected to the graph.
    labelled:
        () labelled crops of the average batch where the gradients of several are accumulated, so
        that each labelled crop of a step counts alike; None = count those of this batch over all
        processes.
    """
    known = known.to(logits.dtype if logits.dtype == torch.float64 else torch.float32)
    entropy = F.binary_cross_entropy_with_logits(
        logits.to(known.dtype), targets.to(known.dtype), reduction="none"
    )
    per_crop = known.sum(dim=1)
    crops = (entropy * known).sum(dim=1) / per_crop.clamp(min=1)
    if reduction == "all_crops":
        return crops.sum() / len(crops)
    if labelled is None:
        # Processes average their gradients, so each divides by its share of all labelled crops.
        labelled = all_reduce_sum((per_crop > 0).sum().float()) / world_size()
    return crops.sum() / torch.where(labelled > 0, labelled, 1.0)
