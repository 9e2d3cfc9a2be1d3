"""Patch-level masked image modelling: masked patches predict the teacher's assignments."""

from __future__ import annotations

import torch

from dermino.pretrain.objectives.cross_entropy import prototype_cross_entropy


def patch_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    masks: torch.Tensor,
    student_temp: float = 0.1,
) -> torch.Tensor:
    r"""Return Eq. 4 averaged over the batch.

    .. math::
        L_{Patch} = -\frac{1}{N_g} \sum_i \frac{1}{\sum_j m_{ij}}
        \sum_j m_{ij} \sum_k \hat p_t^{(ijk)} \log \hat p_s^{(ijk)}

    As in DINOv2, crops without a masked patch add nothing but still count in the mean.

    Parameters
    ----------
    student:
        (M, K) logits of the masked patches only, in the order of ``masks.nonzero()``.
    teacher:
        (M, K) assignments of the same patches, rows summing to one.
    masks:
        (crops, N_p) bool, True where the student saw the mask token.
    student_temp:
        Student temperature.
    """
    per_crop = masks.sum(dim=1)
    masked = per_crop.repeat_interleave(per_crop, output_size=len(student))
    entropy = prototype_cross_entropy(student, teacher, student_temp)
    return (entropy / masked).sum() / len(masks)
