"""Label efficiency: how well a probe does with one to a hundred percent of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from dermino.evaluate.learning_curve import LearningCurve, variants_of
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol
from dermino.evaluate.subsets import panderm_order, stratified_order, whole
from dermino.evaluate.task import Task

Percent = Annotated[float, Field(gt=0, le=100)]


@PROTOCOLS.register("label-efficiency")
class LabelEfficiency(LearningCurve):
    """A probe on shares of the training rows, each a protocol ``label-efficiency-<percent>``.

    ``stratified`` keeps the classes' shares, has an image of each at least, and keeps patients or
    lesions together. ``panderm`` takes what PanDerm's ``--percent_data`` takes: the beginning of
    the rows in the order of ``DataFrame.sample(frac=1, random_state=42)``, which may leave out
    rare classes and divides patients; later draws count on from 42. Either way the samples of one
    draw are nested.

    Parameters
    ----------
    percent:
        Shares of the training rows.
    sampling:
        ``stratified`` or ``panderm``.
    """

    title: ClassVar[str] = "Label efficiency"
    description: ClassVar[str] = (
        "A probe on 1, 5, 10, 20, 30, 50 and 100 % of the training images, three nested draws."
    )

    percent: tuple[Percent, ...] = (1, 5, 10, 20, 30, 50, 100)
    sampling: Literal["stratified", "panderm"] = "stratified"

    def variants(self, name: str) -> Mapping[str, EvaluationProtocol]:
        """Return one protocol a share."""
        return variants_of(self, name, "percent", self.percent)

    def rows(self, task: Task, seed: int, draw: int) -> np.ndarray:
        """Return the rows of the first share."""
        if self.sampling == "panderm":
            order = panderm_order(task, draw)
            return order[: max(1, whole(self.percent[0], len(order)))]
        order, shares = stratified_order(task, seed, draw)
        return order[shares < self.percent[0] / 100]
