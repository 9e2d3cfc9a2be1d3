"""Zero-shot retrieval: the nearest training images answer for a test image."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from dermino.evaluate.metrics import Predictions
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.task import TaskKind

_BLOCK_VALUES = 2**25


@PROTOCOLS.register("retrieval")
class Retrieval(EvaluationProtocol):
    """Cosine k-nearest neighbours with a majority vote (paper, section 4.2.1).

    Nothing is learnt. A class's score is its share of the k votes, so an AUROC rests on k + 1
    levels. When classes tie, the one whose neighbour is nearest is predicted; the authors' code
    takes the first in the alphabet there. Without classes nobody votes.

    Parameters
    ----------
    k:
        Neighbours that vote; all training images where there are fewer.
    """

    title: ClassVar[str] = "Retrieval"
    description: ClassVar[str] = (
        "Zero-shot: the five training images of highest cosine similarity vote; ties go to the "
        "nearest."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal", "unlabelled"})

    k: int = Field(5, ge=1)

    @property
    def parameters(self) -> dict[str, Any]:
        """The number of neighbours and how they are found."""
        return {**super().parameters, "similarity": "cosine", "ties": "nearest"}

    def run(self, trial: Trial) -> Outcome:
        """Find the neighbours of every test row, and let them vote."""
        task = trial.task
        train, train_targets = trial.part("train")
        test, _ = trial.part("test")
        similarities, nearest = nearest_neighbours(test, train, min(self.k, len(train)))
        images = np.array(task.images, object)[task.rows("train")]
        found = {
            "neighbours": images[nearest].tolist(),
            "similarities": similarities.tolist(),
        }
        if not task.classes:
            return Outcome(None, found)
        neighbour_targets = train_targets.cpu().numpy()[nearest]
        votes = np.stack([(neighbour_targets == c).sum(1) for c in range(len(task.classes))], 1)
        leading = np.take_along_axis(votes, neighbour_targets, axis=1)
        # argmax gives the first of the greatest: the nearest neighbour of a leading class.
        first = leading.argmax(axis=1)[:, None]
        predicted = np.take_along_axis(neighbour_targets, first, axis=1)[:, 0]
        names = np.array(task.classes, object)
        return Outcome(
            Predictions(
                targets=task.targets[task.rows("test")],
                predicted=predicted,
                scores=votes / nearest.shape[1],
                classes=task.classes,
            ),
            {**found, "neighbour_targets": names[neighbour_targets].tolist()},
        )


def nearest_neighbours(
    queries: torch.Tensor, gallery: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` gallery vectors of highest cosine similarity, nearest first.

    Parameters
    ----------
    queries, gallery:
        Shapes (m, D) and (n, D), float32, on one device.
    k:
        At most n.

    Returns
    -------
    tuple of np.ndarray
        Similarities (m, k) float32 and gallery rows (m, k) int64.
    """
    gallery = F.normalize(gallery, dim=1)
    found = [
        torch.topk(F.normalize(block, dim=1) @ gallery.T, k, dim=1)
        for block in queries.split(max(1, _BLOCK_VALUES // len(gallery)))
    ]
    similarities = torch.cat([block.values for block in found])
    rows = torch.cat([block.indices for block in found])
    return similarities.cpu().numpy(), rows.cpu().numpy()
