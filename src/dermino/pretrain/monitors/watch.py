"""Where methods show what monitors look at, in passing and without a computation of their own."""

from __future__ import annotations

import math
from collections import deque

import torch

from dermino.pretrain.distributed import all_gather, world_size
from dermino.pretrain.monitors.assignments import AssignmentTally
from dermino.pretrain.monitors.features import feature_rank, feature_spread, mean_cosine

# The rank's cost grows with the cube of it.
_MOST_FEATURES = 512
# It is at most their number, and of fewer features says more about that than about the encoder.
_FEWEST_FOR_RANK = 16


class Watch:
    """Looks on while a method computes its losses; nothing that is trained depends on it.

    Methods call :meth:`features` and, where they have prototypes, :meth:`assignments` or
    :meth:`choices` in every forward pass.

    Parameters
    ----------
    batches_per_step:
        Forward passes of one optimiser step.
    """

    def __init__(self, batches_per_step: int = 1) -> None:
        self._features: deque[torch.Tensor] = deque(maxlen=batches_per_step)
        self._tallies: dict[str, AssignmentTally] = {}

    def features(self, class_tokens: torch.Tensor) -> None:
        """Show the (B, D) class tokens of one global view, of the network that is exported."""
        # A copy, which keeps no larger tensor of an earlier pass alive.
        self._features.append(class_tokens.detach()[:_MOST_FEATURES].clone())

    def assignments(self, head: str, probabilities: torch.Tensor) -> None:
        """Show the (N, K) probabilities over the prototypes of a head, rows summing to one."""
        self._tally(head, probabilities).add(probabilities.detach())

    def choices(self, head: str, scores: torch.Tensor) -> None:
        """Show (N, K) scores whose largest one is a choice, but which are no distribution."""
        self._tally(head, scores).add_choices(scores.detach())

    def read(self) -> dict[str, float]:
        """Return the figures since the last call and start anew; every process has to ask.

        Features are those of the last step, over its batches. Figures that are no finite number
        are left out, and so is the rank of fewer than 16 images.
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
        if not self._features:
            return {}
        share = -(-_MOST_FEATURES // world_size())
        features = all_gather(torch.cat(list(self._features))[:share].float())
        if len(features) < 2 or not bool(features.isfinite().all()):
            return {}
        rank = {"feature_rank": feature_rank(features)} if len(features) >= _FEWEST_FOR_RANK else {}
        return rank | {
            "feature_spread": feature_spread(features),
            "feature_cosine": mean_cosine(features),
        }
