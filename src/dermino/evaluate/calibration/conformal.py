"""Split conformal prediction: sets of classes that hold the true one with a stated probability.

From validation images comes a bound on how strange the true class of an image looks; a set holds
all classes of a new image that do not look stranger. If validation and test images are
exchangeable, the true class is in the set with at least the stated probability, whatever the
encoder and however badly its probabilities are calibrated (Vovk et al. 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dermino.evaluate.classification import Predictions

Method = Literal["lac", "aps", "raps"]


@dataclass(frozen=True)
class ConformalScore:
    """How strange each class of an image looks.

    Parameters
    ----------
    method:
        - ``lac``: one minus the class's probability (Sadinle et al. 2019); smallest sets.
        - ``aps``: probability of all classes at least as likely, the own one counted by a random
          share (Romano et al. 2020); large sets for hard images, small ones for easy images.
        - ``raps``: the same plus ``penalty`` for each class beyond the ``rank``-th (Angelopoulos
          et al. 2021), which keeps sets from growing long.
    penalty, rank:
        Of ``raps``.
    seed:
        Of the random shares.
    """

    method: Method = "lac"
    penalty: float = 0.01
    rank: int = 5
    seed: int = 0

    def of(self, probabilities: np.ndarray, stream: int) -> np.ndarray:
        """Return the strangeness of each class.

        Parameters
        ----------
        probabilities:
            Shape (n, C).
        stream:
            Number of the set of images, so that two have independent random shares.

        Returns
        -------
        np.ndarray
            (n, C) float64.
        """
        if self.method == "lac":
            return 1 - probabilities
        n, n_classes = probabilities.shape
        order = np.argsort(-probabilities, axis=1, kind="stable")
        ranked = np.take_along_axis(probabilities, order, axis=1)
        share = np.random.default_rng([self.seed, stream]).random((n, 1))
        strange = np.cumsum(ranked, axis=1) - share * ranked
        if self.method == "raps":
            place = np.arange(1, n_classes + 1)
            strange = strange + self.penalty * np.maximum(place - self.rank, 0)
        result = np.empty_like(strange)
        np.put_along_axis(result, order, strange, axis=1)
        return result


def prediction_sets(
    validation: Predictions,
    probabilities: np.ndarray,
    score: ConformalScore,
    coverage: float,
    class_conditional: bool = False,
) -> np.ndarray:
    """Return which classes are in each image's set.

    Parameters
    ----------
    validation:
        The images that the bound is learnt on; scores are probabilities.
    probabilities:
        Of the n images asked about, shape (n, C).
    score:
        How strange a class looks.
    coverage:
        Probability with which the true class shall be in the set.
    class_conditional:
        Learn a bound for each class, on its own images: coverage then holds for images of every
        class, not only on average (Mondrian). A class with too few images for a bound is in every
        set.

    Returns
    -------
    np.ndarray
        (n, C) bool.
    """
    own = score.of(validation.scores, stream=0)[np.arange(len(validation)), validation.targets]
    n_classes = len(validation.classes)
    if class_conditional:
        bounds = [
            conformal_quantile(own[validation.targets == c], coverage) for c in range(n_classes)
        ]
    else:
        bounds = [conformal_quantile(own, coverage)] * n_classes
    return np.asarray(score.of(probabilities, stream=1) <= np.array(bounds))


def conformal_quantile(strangeness: np.ndarray, coverage: float) -> float:
    """Return the ceil((n + 1) * coverage)-th smallest of n values; infinite where n is too small.

    The one image more is the new one: it takes any place among the n + 1 with equal probability.
    """
    place = int(np.ceil((len(strangeness) + 1) * coverage - 1e-9))
    if place > len(strangeness):
        return float("inf")
    return float(np.partition(strangeness, place - 1)[place - 1])


def fewest_images(coverage: float) -> int:
    """Return how many validation images a bound needs."""
    return int(np.ceil(coverage / (1 - coverage) - 1e-9))
