"""Where methods show what monitors look at, in passing and without a computation of their own."""

from __future__ import annotations

import math

import torch

from dermino.pretrain.distributed import all_gather, world_size
from dermino.pretrain.monitors.assignments import AssignmentTally
from dermino.pretrain.monitors.features import feature_rank, feature_spread, mean_cosine

# The rank's cost grows with the cube of it.
_MOST_FEATURES = 512


class Watch:
    """Looks on while a method computes its losses; nothing that is trained depends on it.

    Methods call :meth:`features` and, where they have prototypes, :meth:`assignments` or
    :meth:`choices` in every forward pass.
    """

    def __init__(self) -> None:
        self._features: torch.Tensor | None = None
        self._tallies: dict[str, AssignmentTally] = {}

    def features(self, class_tokens: torch.Tensor) -> None:
        """Show the (B, D) class tokens of one global view, of the network that is exported."""
        self._features = class_tokens.detach()

    def assignments(self, head: str, probabilities: torch.Tensor) -> None:
        """Show the (N, K) probabilities over the prototypes of a head, rows summing to one."""
        self._tally(head, probabilities).add(probabilities.detach())

    def choices(self, head: str, scores: torch.Tensor) -> None:
        """Show (N, K) scores whose largest one is a choice, but which are no distribution."""
        self._tally(head, scores).add_choices(scores.detach())

    def read(self) -> dict[str, float]:
        """Return the figures since the last call and start anew; every process has to ask.

        Features are those of the last step. Figures that are no finite number are left out.
        """
        figures = self._feature_figures()
        for head, tally in self._tallies.items():
            figures |= {f"{head}_{name}": value for name, value in tally.read().items()}
        self._tallies.clear()
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def _tally(self, head: str, scores: torch.Tensor) -> AssignmentTally:
        if head not in self._tallies:
            self._tallies[head] = AssignmentTally(scores.shape[1], scores.device)
        return self._tallies[head]

    def _feature_figures(self) -> dict[str, float]:
        if self._features is None:
            return {}
        share = -(-_MOST_FEATURES // world_size())
        features = all_gather(self._features[:share].float())
        if len(features) < 2 or not bool(features.isfinite().all()):
            return {}
        return {
            "feature_rank": feature_rank(features),
            "feature_spread": feature_spread(features),
            "feature_cosine": mean_cosine(features),
        }
