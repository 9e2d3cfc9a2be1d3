"""What each monitored figure means, when it tells of a collapse, and what to do then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A monitored figure in words.

    Parameters
    ----------
    title:
        Its name for readers.
    meaning:
        What it is, and between what it lies.
    low, high:
        Below or above them it is a sign of collapse; None = no such limit.
    reason:
        Why the limit is where it is, or what to look at where there is none.
    """

    title: str
    meaning: str
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def is_sign(self, value: float) -> bool:
        """Whether a value is a sign of collapse."""
        too_low = self.low is not None and value < self.low
        return too_low or (self.high is not None and value > self.high)


_ENTROPY = (
    "how undecided the teacher is between the prototypes for one {}: 0 = all on one prototype, "
    "1 = equally on all, which teaches nothing"
)
_ENTROPY_REASON = (
    "Above 0.999 less than a thousandth of what a target could say is left. It rises while the "
    "teacher's temperature warms up, and should level off after that."
)
_ENTROPY_OF_MEAN = (
    "how evenly the prototypes are used over all {} together: 0 = one prototype takes all, "
    "1 = all equally"
)
_ENTROPY_OF_MEAN_REASON = (
    "Below 0.1 about three of 65,536 prototypes are left. Sinkhorn-Knopp keeps it high by "
    "construction; with loss.centering=softmax it is the first to fall."
)
_INFORMATION = (
    "how much the targets tell the {} apart, the difference of the two entropies: 0 = all have the "
    "same target"
)
_AS_FOR_IMAGES = "The limit is that of the image targets, for the same reason."
_USED = (
    "prototypes that were the first choice of some {} since the record before, as a share of "
    "what these could reach"
)
FIGURES: Mapping[str, Figure] = {
    "knn_accuracy": Figure(
        "k-NN accuracy",
        "how often the five most similar held-out images name an image's label, all labels "
        "weighing the same; 1 = always",
        reason="It should rise, and has to stay above chance (1 divided by the classes). If it "
        "falls for long, take an earlier checkpoint's encoder, or train less long.",
    ),
    "feature_rank": Figure(
        "Feature rank",
        "in how many independent directions the images of a step differ, at most the images of "
        "the step or the width of the features; left out of steps of fewer than 16 images",
        low=4,
        reason="Below 4 the features could hardly tell a handful of classes apart.",
    ),
    "feature_spread": Figure(
        "Feature spread",
        "how far the features of a step point apart: 0 = all the same way, about 1 = everywhere",
        low=0.1,
        reason="Below 0.1 the mean cosine between any two images is above 0.99: all look alike.",
    ),
    "feature_cosine": Figure(
        "Mean cosine of features",
        "similarity of two images of a step on average: 1 = all the same",
        reason="The counterpart of the spread: 1 minus its square, nearly.",
    ),
    "image_entropy": Figure(
        "Image targets: entropy", _ENTROPY.format("crop"), high=0.999, reason=_ENTROPY_REASON
    ),
    "image_entropy_of_mean": Figure(
        "Image targets: entropy of the mean",
        _ENTROPY_OF_MEAN.format("crops"),
        low=0.1,
        reason=_ENTROPY_OF_MEAN_REASON,
    ),
    "image_information": Figure(
        "Image targets: information",
        _INFORMATION.format("crops"),
        low=0.001,
        reason="Below 0.001 the targets hardly depend on what is seen, however sure they are.",
    ),
    "image_prototypes_used": Figure(
        "Image prototypes used",
        _USED.format("crop"),
        low=0.02,
        reason="Below 0.02 fifty crops share a prototype where each could have had its own.",
    ),
    "patch_entropy": Figure(
        "Patch targets: entropy", _ENTROPY.format("patch"), high=0.999, reason=_AS_FOR_IMAGES
    ),
    "patch_entropy_of_mean": Figure(
        "Patch targets: entropy of the mean",
        _ENTROPY_OF_MEAN.format("patches"),
        low=0.1,
        reason=_AS_FOR_IMAGES,
    ),
    "patch_information": Figure(
        "Patch targets: information",
        _INFORMATION.format("patches"),
        low=0.001,
        reason=_AS_FOR_IMAGES,
    ),
    "patch_prototypes_used": Figure(
        "Patch prototypes used",
        _USED.format("masked patch"),
        reason="Patches of plain skin are alike and share prototypes; a steady value is fine.",
    ),
    "disease_prototypes_used": Figure(
        "Disease prototypes used",
        "disease prototypes that were the nearest one of some crop, as a share of what the crops "
        "could reach",
        reason="Rare diseases appear late. A share that falls to one or two prototypes says that "
        "one diagnosis answers for all: look at the labels.",
    ),
}
COLLAPSE = "collapse_signs"
ADVICE = (
    "Lower optimizer.base_lr (a half, then a tenth) or lengthen optimizer.warmup_epochs.",
    "Keep loss.koleo above 0 and loss.centering at sinkhorn_knopp: both act against collapse.",
    "Raise the batch: below some 64 images over all devices the targets are noisy.",
    "Start from published weights (model.init) instead of random ones.",
    "Run dermino data check: many copies of few pictures look like a collapse.",
)


def signs(record: Mapping[str, float]) -> list[str]:
    """Return the names of the figures of a record that tell of a collapse."""
    return [
        name for name, figure in FIGURES.items() if name in record and figure.is_sign(record[name])
    ]
