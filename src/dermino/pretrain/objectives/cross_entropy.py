"""Cross-entropy between teacher assignments and student scores over prototypes."""

from __future__ import annotations

import torch


def prototype_cross_entropy(
    student: torch.Tensor, teacher: torch.Tensor, student_temp: float
) -> torch.Tensor:
    """Return -sum_k t_k log softmax(s / T)_k for every row.

    Written as (sum_k t_k) logsumexp(s / T) - sum_k t_k s_k / T, which needs no copy of the
    log-probabilities: with 65,536 prototypes they are the largest tensor of a step. Autocast would
    take the product in half precision, and is left aside.

    Parameters
    ----------
    student:
        (..., K) logits, of any floating type.
    teacher:
        (..., K) non-negative weights, of any floating type; rows need not sum to one.
    student_temp:
        Temperature T of the student.

    Returns
    -------
    (...) float32, or float64 of float64 logits.
    """
    scaled = student.to(torch.promote_types(student.dtype, torch.float32)) / student_temp
    teacher = teacher.to(scaled.dtype)
    with torch.autocast(scaled.device.type, enabled=False):
        attraction = torch.linalg.vecdot(teacher, scaled)
    return teacher.sum(dim=-1) * torch.logsumexp(scaled, dim=-1) - attraction
