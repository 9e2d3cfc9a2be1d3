"""Whether the nearest neighbours of an image share its label."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional as F

# As in the zero-shot retrieval of the evaluation.
NEIGHBOURS = 5
# Weight of a vote, exp(cosine / T), as DINO's k-NN classifier has it.
_TEMPERATURE = 0.07


@torch.no_grad()
def neighbour_accuracy(features: torch.Tensor, classes: np.ndarray, groups: np.ndarray) -> float:
    """Return the balanced accuracy of leave-one-out k-NN by cosine, between 0 and 1.

    The images of a group (a patient or a lesion) do not vote for one another.

    Parameters
    ----------
    features:
        (n, D).
    classes, groups:
        (n,) int64.
    """
    directions = F.normalize(features.float(), dim=1)
    similarity = directions @ directions.T
    group = torch.from_numpy(groups).to(similarity.device)
    similarity.masked_fill_(group.unsqueeze(0) == group.unsqueeze(1), -torch.inf)
    nearest = similarity.topk(min(NEIGHBOURS, len(features) - 1), dim=1)
    targets = torch.from_numpy(classes).to(similarity.device)
    votes = similarity.new_zeros(len(features), int(classes.max()) + 1)
    votes.scatter_add_(1, targets[nearest.indices], (nearest.values / _TEMPERATURE).exp())
    return float(balanced_accuracy_score(classes, votes.argmax(dim=1).cpu().numpy()))
