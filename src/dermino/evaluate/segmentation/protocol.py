"""What the segmentation protocols share: everything but the head and the maps it takes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from dermino.errors import UserError
from dermino.evaluate.protocol import EvaluationProtocol, Outcome, Trial
from dermino.evaluate.seeding import seeded
from dermino.evaluate.segmentation.answers import Answers, mask_names
from dermino.evaluate.segmentation.feature_maps import Extractor, FeatureMaps
from dermino.evaluate.segmentation.pixels import Pixels, read_pixels
from dermino.evaluate.segmentation.training import Optimisation, enlarge, train_head
from dermino.evaluate.task import Task, TaskKind
from dermino.models.encoder import Encoder

_HEAD = 2**32 - 1  # Keys the head's first weights, where epochs are keyed by their number.


class Segmentation(EvaluationProtocol):
    """Lesion masks by a head on a frozen encoder (paper, section 4.2.3).

    Images are squashed to the encoder's input, masks to ``size``, without augmentation. The last
    epoch is kept; validation rows are not used.

    Parameters
    ----------
    epochs:
        Passes over the training images.
    learning_rate:
        Adam's rate at the start; it falls by a cosine over the epochs.
    batch_size:
        Images in a step, and in a batch of the official metrics.
    size:
        Side of the masks that are learnt and judged, pixels.
    """

    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"segmentation"})
    needs: ClassVar[Literal["features", "encoder"]] = "encoder"

    epochs: int = Field(20, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=2)
    size: int = Field(224, ge=16)

    @property
    def parameters(self) -> dict[str, Any]:
        """All values of the optimisation."""
        return {**super().parameters, "optimiser": "adam", "selection": "last epoch"}

    @abstractmethod
    def extractor(self, encoder: Encoder) -> Extractor:
        """Return what computes the maps that the head takes."""

    @abstractmethod
    def head(self, channels: Sequence[int]) -> nn.Module:
        """Build the head for maps of these channels; it gives logits of background and lesion."""

    def check(self, task: Task) -> None:
        """Ask for two training images, without which batch normalisation has no statistics."""
        if len(task.rows("train")) < 2:
            raise UserError(
                f"Task '{task.name}' has fewer than two training images with a mask.",
                "Add some to the manifest's 'train' split.",
            )

    def run(self, trial: Trial) -> Outcome:
        """Train on the training rows, predict the masks of the test rows and measure them."""
        if trial.encoder is None:
            raise ValueError("a segmentation needs an encoder")
        encoder, task = trial.encoder, trial.task
        extract = self.extractor(encoder)
        train, test = task.rows("train"), task.rows("test")
        rows = np.concatenate([train, test])
        with _folder(trial.work) as folder:
            files = task.files()
            pixels = read_pixels(
                [files[row] for row in rows],
                [files[len(task.targets) + row] for row in rows],
                encoder.preprocess,
                self.size,
                folder,
                trial.batch_size,
                trial.workers,
            )
            maps = FeatureMaps(extract, pixels.images, folder, trial.batch_size, encoder.name)
            with seeded(trial.device, trial.seed, _HEAD):
                head = self.head(maps.channels).to(trial.device)
            optimisation = Optimisation(
                self.epochs, self.learning_rate, self.batch_size, trial.seed
            )
            learnt, judged = np.split(np.arange(len(rows)), [len(train)])
            train_head(head, maps, pixels, learnt, optimisation, folder / "head.pt")
            answers = Answers(mask_names([task.images[row] for row in test]), trial.files)
            self._answer(head, maps, pixels, judged, answers)
        columns: dict[str, Sequence[Any]] = {"true_mask": task.targets[test].tolist()}
        if trial.files is not None:
            columns["predicted_mask"] = answers.names
        return Outcome(None, columns, answers.scores(self.batch_size))

    @torch.inference_mode()
    def _answer(
        self,
        head: nn.Module,
        maps: FeatureMaps,
        pixels: Pixels,
        rows: np.ndarray,
        answers: Answers,
    ) -> None:
        device = next(head.parameters()).device
        for batch in np.array_split(rows, -(-len(rows) // self.batch_size)):
            logits = enlarge(head(maps.batch(batch, device)), pixels.masks.shape[1:])
            answers.add(logits, pixels, batch)


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    """Yield a folder for arrays and checkpoints: that of the trial, or one that is removed."""
    if work is not None:
        yield work
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary)
