"""The encoders under evaluation, each under a name that is its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dermino.errors import UserError
from dermino.evaluate.leakage import (
    AUDIT_FOLDER,
    PAIRS_FILE,
    Exposure,
    SamePictures,
    SeenImages,
    run_folder,
    seen_in_pretraining,
)
from dermino.evaluate.task import Task, file_name
from dermino.models.encoder import Encoder
from dermino.models.load import load_encoder


@dataclass(frozen=True)
class Candidate:
    """An encoder, how it was asked for, and the pretraining run it came from, if any.

    ``audits`` are folders of ``dermino data audit``, to which one beside the run is added.
    """

    spec: str
    encoder: Encoder
    run: Path | None
    audits: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """How results call it; usable as a file name."""
        return self.encoder.name

    @cached_property
    def _seen_images(self) -> SeenImages | None:
        return SeenImages.read(self.run)

    @cached_property
    def _same_pictures(self) -> SamePictures | None:
        own = self.run / AUDIT_FOLDER if self.run else None
        beside = [own] if own and (own / PAIRS_FILE).is_file() else []
        return SamePictures.read([*self.audits, *beside])

    def exposure(self, task: Task) -> Exposure:
        """Tell what the encoder saw of a task in pretraining."""
        return seen_in_pretraining(task, self._seen_images, self.encoder.seen, self._same_pictures)

    def describe(self) -> dict[str, Any]:
        """Return what ``evaluation.json`` says of the encoder."""
        return {
            "name": self.name,
            "spec": self.spec,
            "identity": self.encoder.identity,
            "architecture": self.encoder.architecture,
            "embed_dim": self.encoder.embed_dim,
            "image_size": self.encoder.preprocess.image_size,
            "parameters": sum(weight.numel() for weight in self.encoder.parameters()),
            "seen": self.encoder.seen,
            "run": str(self.run) if self.run else None,
        }


def load_candidates(
    specs: Sequence[str],
    image_size: int | None,
    device: torch.device,
    audits: Sequence[str | Path] = (),
) -> list[Candidate]:
    """Load encoders by name.

    Parameters
    ----------
    specs:
        Names as :func:`dermino.models.load.load_encoder` takes them.
    image_size:
        Side of the input in pixels, where it should differ from the encoders' own.
    device:
        Where to put them.
    audits:
        Folders of ``dermino data audit``.

    Raises
    ------
    UserError
        If there is none, one cannot be loaded, or two would have the same name in the results.
    """
    if not specs:
        raise UserError("No encoder was given.", "Name one with --encoder.")
    candidates: dict[str, Candidate] = {}
    for spec in dict.fromkeys(specs):
        encoder = load_encoder(spec, image_size, device)
        encoder.name = file_name(encoder.name)
        if encoder.name in candidates:
            raise UserError(
                f"'{candidates[encoder.name].spec}' and '{spec}' are both called '{encoder.name}'.",
                f"Choose names, for instance --encoder first={candidates[encoder.name].spec}",
            )
        candidates[encoder.name] = Candidate(
            spec, encoder, run_folder(spec), tuple(map(Path, audits))
        )
    return list(candidates.values())
