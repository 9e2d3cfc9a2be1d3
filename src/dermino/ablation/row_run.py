"""One row's pretraining run: is it finished, is it still the one asked for, how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dermino.ablation.tables import Row
from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.knowledge.taxonomy import Taxonomy
from dermino.models.encoder_file import FILE_NAME as ENCODER_FILE
from dermino.pretrain.checkpoint import FOLDER as CHECKPOINTS
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.export import seen_images
from dermino.pretrain.metrics_log import read_metrics
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.resume import refuse_another_run


@dataclass(frozen=True)
class RowRun:
    """A row with its recipe and its run folder.

    Parameters
    ----------
    row:
        The row.
    config:
        Its recipe.
    recipe:
        Where the recipe is written.
    folder:
        The run folder.
    data:
        The manifests it trains on.
    labels:
        The taxonomy's folder; None for a row without supervision.
    """

    row: Row
    config: PretrainConfig
    recipe: Path
    folder: Path
    data: tuple[str | Path, ...]
    labels: str | Path | None

    @property
    def begun(self) -> bool:
        """Whether there is something to continue; a run without a checkpoint starts anew."""
        return self.finished or any((self.folder / CHECKPOINTS).glob("step_*.pt"))

    @property
    def finished(self) -> bool:
        """Whether the run has exported its encoder, the last thing it does."""
        return (self.folder / ENCODER_FILE).is_file()

    @property
    def seconds(self) -> float | None:
        """How long the training of a finished run took; None for others."""
        if not self.finished:
            return None
        step, seconds = 0.0, 0.0
        for record in read_metrics(self.folder):
            images = (record["step"] - step) * self.config.batch_size()
            seconds += images / record["images_per_second"]
            step = record["step"]
        return seconds

    def train(self) -> None:
        """Train what is left to be trained."""
        if not self.finished:
            pretrain(self.data, self.folder, self.labels, self.recipe, resume=True)

    def refuse_another(self, images: Manifest, taxonomy: Taxonomy | None) -> None:
        """Check that a run begun earlier is the one asked for now.

        Parameters
        ----------
        images:
            What the row trains on now.
        taxonomy:
            What :attr:`labels` holds.

        Raises
        ------
        UserError
            Naming every value that differs.
        """
        if not self.begun:
            return
        certainty = self.config.prototypes.certainty
        labels = taxonomy.encode(images, certainty) if taxonomy is not None else None
        seen = seen_images(images, labels, self.config.model.init)
        asked = {
            "batch_size": self.config.batch_size(),
            "taxonomy": taxonomy.fingerprint if taxonomy is not None else None,
        }
        try:
            refuse_another_run(self.folder, self.config, asked, seen)
        except UserError as error:
            raise UserError(
                error.message,
                "Give recipe, --set, --data and --labels as then, choose another --out, or remove "
                "that folder to train its row again.",
            ) from error
