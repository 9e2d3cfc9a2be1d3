"""Image-level self-distillation: class tokens of all crops agree with the teacher's."""

from __future__ import annotations

from typing import Literal

import torch

from dermino.pretrain.objectives.cross_entropy import prototype_cross_entropy

Pairing = Literal["cross", "same"]


def image_loss(
    student_global: torch.Tensor,
    student_local: torch.Tensor | None,
    teacher_global: torch.Tensor,
    student_temp: float = 0.1,
    pairing: Pairing = "cross",
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the global and the local-global term, Eq. 1 and Eq. 2, averaged over the batch.

    .. math::
        L^{Global} = -\frac{1}{N_g(1+N_l)} \sum_i \sum_k p_{t}^{(i,k)} \log p_{s,g}^{(i,k)}, \quad
        L^{Local} = -\frac{1}{N_g(1+N_l)} \sum_m \sum_n \sum_k p_{t}^{(m,k)} \log p_{s,l}^{(n,k)}

    With two global crops N_g(1 + N_l) is the number of pairs, 18 in the paper. Without local crops
    it is 3, as in DINOv2, which counts one local pair at least. Eq. 1 pairs crop i
    of the student with crop i of the teacher; DINOv2 and the authors' code pair it with the other
    crop, which is the default here.

    Parameters
    ----------
    student_global:
        (2, B, K) logits of the student's masked global crops.
    student_local:
        (N_l, B, K) logits of its local crops, or None.
    teacher_global:
        (2, B, K) assignments of the teacher, rows summing to one.
    student_temp:
        Student temperature.
    pairing:
        ``cross`` (DINOv2) or ``same`` (Eq. 1 to the letter).
    """
    local_pairs = 2 * len(student_local) if student_local is not None else 1
    normaliser = 2 + max(local_pairs, 1)
    target = teacher_global.flip(0) if pairing == "cross" else teacher_global
    entropy = prototype_cross_entropy(student_global, target, student_temp)
    global_term = entropy.mean(dim=1).sum() / normaliser
    if student_local is None:
        return global_term, torch.zeros_like(global_term)
    # Both teacher crops meet every local crop: summing them first halves the work.
    both = teacher_global.sum(dim=0, dtype=entropy.dtype)
    local = sum(prototype_cross_entropy(crop, both, student_temp).mean() for crop in student_local)
    return global_term, torch.as_tensor(local) / normaliser
