"""Training-size curve: how well a probe does with so many training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from dermino.evaluate.learning_curve import LearningCurve, variants_of
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol
from dermino.evaluate.subsets import stratified_order
from dermino.evaluate.task import Task


@PROTOCOLS.register("training-size")
class TrainingSize(LearningCurve):
    """A probe on stratified, nested samples of given sizes, each ``training-size-<images>``.

    A task with fewer training rows than a size gives all; ``training_images`` says how many.

    Parameters
    ----------
    images:
        Numbers of training rows.
    """

    title: ClassVar[str] = "Training size"
    description: ClassVar[str] = (
        "A probe on 50 to 5,000 training images, stratified, three nested draws."
    )

    images: tuple[Annotated[int, Field(ge=1)], ...] = (50, 100, 200, 500, 1000, 2000, 5000)

    def variants(self, name: str) -> Mapping[str, EvaluationProtocol]:
        """Return one protocol a size."""
        return variants_of(self, name, "images", self.images)

    def rows(self, task: Task, seed: int, draw: int) -> np.ndarray:
        """Return the rows of the first size."""
        return stratified_order(task, seed, draw)[0][: self.images[0]]
