"""Zero-shot retrieval: the nearest training images answer for a test image."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.special import softmax
from torch.nn import functional as F

from dermino.evaluate.classification import Predictions
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.ranked_gallery import ranking_scores
from dermino.evaluate.task import TaskKind

_BLOCK_VALUES = 2**25


@PROTOCOLS.register("retrieval")
class Retrieval(EvaluationProtocol):
    """Cosine k-nearest neighbours with a majority vote (paper, section 4.2.1).

    Nothing is learnt. A class's score is its share of the k votes, so an AUROC rests on k + 1
    levels. The defaults are those of the authors' code, scikit-learn on L2-normalised features.
    Without classes nobody votes.

    Parameters
    ----------
    k:
        Neighbours that vote; all training images where there are fewer.
    weights:
        What a vote counts: ``uniform``, the cosine ``similarity`` (0 where negative), or its
        ``softmax`` at ``temperature``, as in DINOv2's k-NN evaluation.
    temperature:
        Of ``softmax``.
    ties:
        Which of classes with equally many votes is predicted: the ``first`` of the task's, as in
        scikit-learn, or the one whose neighbour is ``nearest``. Scores do not change.
    ranking:
        Also judge the ranking of the whole gallery
        (:func:`dermino.evaluate.ranked_gallery.ranking_scores`).
    """

    title: ClassVar[str] = "Retrieval"
    description: ClassVar[str] = (
        "Zero-shot: the five training images of highest cosine similarity vote; ties go to the "
        "first class."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal", "unlabelled"})

    k: int = Field(5, ge=1)
    weights: Literal["uniform", "similarity", "softmax"] = "uniform"
    temperature: float = Field(0.07, gt=0)
    ties: Literal["first", "nearest"] = "first"
    ranking: bool = True

    @property
    def parameters(self) -> dict[str, Any]:
        """The number of neighbours and how they are found."""
        return {**super().parameters, "similarity": "cosine"}

    def run(self, trial: Trial) -> Outcome:
        """Find the neighbours of every test row, and let them vote."""
        task = trial.task
        train, train_targets = trial.part("train")
        test, test_targets = trial.part("test")
        similarities, nearest = nearest_neighbours(test, train, min(self.k, len(train)))
        images = np.array(task.images, object)[task.rows("train")]
        found = {
            "neighbours": images[nearest].tolist(),
            "similarities": similarities.tolist(),
        }
        if not task.classes:
            return Outcome(None, found)
        neighbour_targets = train_targets.cpu().numpy()[nearest]
        weights = self._weights(similarities)
        votes = np.stack(
            [(weights * (neighbour_targets == c)).sum(1) for c in range(len(task.classes))], 1
        )
        # Either way argmax gives the first of the greatest: of the classes, or of the neighbours.
        predicted = votes.argmax(axis=1)
        if self.ties == "nearest":
            leading = np.take_along_axis(votes, neighbour_targets, axis=1).argmax(axis=1)
            predicted = neighbour_targets[np.arange(len(leading)), leading]
        names = np.array(task.classes, object)
        return Outcome(
            Predictions(
                targets=task.targets[task.rows("test")],
                predicted=predicted,
                scores=votes / weights.sum(axis=1, keepdims=True),
                classes=task.classes,
            ),
            {**found, "neighbour_targets": names[neighbour_targets].tolist()},
            ranking_scores(test, test_targets, train, train_targets, nearest.shape[1])
            if self.ranking
            else {},
        )

    def _weights(self, similarities: np.ndarray) -> np.ndarray:
        """Return what each neighbour's vote counts, (m, k) float64, some of them above 0."""
        exact = similarities.astype(np.float64)
        if self.weights == "softmax":
            return softmax(exact / self.temperature, axis=1)
        counted = np.ones_like(exact) if self.weights == "uniform" else np.maximum(exact, 0)
        counted[counted.sum(axis=1) == 0] = 1  # No neighbour is similar: all count alike.
        return counted


@PROTOCOLS.register("retrieval-weighted")
class WeightedRetrieval(Retrieval):
    """Retrieval whose votes count by their similarity, so that an AUROC has finer levels."""

    title: ClassVar[str] = "Retrieval (weighted)"
    description: ClassVar[str] = (
        "Zero-shot: the five training images of highest cosine similarity vote, each with its "
        "similarity."
    )

    weights: Literal["uniform", "similarity", "softmax"] = "similarity"
    ranking: bool = False


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
