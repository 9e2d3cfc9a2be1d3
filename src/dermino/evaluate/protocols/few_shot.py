"""Few-shot learning: a probe on k training images of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from dermino.evaluate.learning_curve import LearningCurve, variants_of
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol
from dermino.evaluate.subsets import few_shot_rows
from dermino.evaluate.task import Task, TaskKind


@PROTOCOLS.register("few-shot")
class FewShot(LearningCurve):
    """A probe on k images of each class, each k a protocol ``few-shot-<k>``.

    The images of a class come from different patients or lesions as long as there are any, and
    fewer shots of a draw are part of more.

    Parameters
    ----------
    shots:
        Images of each class.
    """

    title: ClassVar[str] = "Few-shot"
    description: ClassVar[str] = "A probe on 1, 2, 4, 8 and 16 images of each class, ten draws."
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal"})

    shots: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 16)
    draws: int = Field(10, ge=1)

    def variants(self, name: str) -> Mapping[str, EvaluationProtocol]:
        """Return one protocol a number of shots."""
        return variants_of(self, name, "shots", self.shots)

    def rows(self, task: Task, seed: int, draw: int) -> np.ndarray:
        """Return the rows of the first number of shots."""
        return few_shot_rows(task, self.shots[0], seed, draw)
