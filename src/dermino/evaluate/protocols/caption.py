"""Captions by a language model that reads an encoder's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from dermino.errors import UserError, unknown
from dermino.evaluate.caption.augmentation import augmented_features
from dermino.evaluate.caption.captioner import CHAT, IMAGE, Captioner, Lora
from dermino.evaluate.caption.language_model import (
    Location,
    Precision,
    check_folder,
    check_reachable,
    load_language_model,
)
from dermino.evaluate.caption.scores import caption_scores, missing_tools
from dermino.evaluate.caption.training import Optimisation, train_captioner
from dermino.evaluate.caption.writing import write_captions
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.seeding import seeded
from dermino.evaluate.task import Task, TaskKind
from dermino.progress import console

_WEIGHTS = 2**32 - 1  # Keys the first weights, where epochs are keyed by their number.
_AUGMENTED = 2**32 - 2


@PROTOCOLS.register("caption")
class Caption(EvaluationProtocol):
    """Visual tokens from a linear projector into a language model with LoRA (section 4.2.2).

    The encoder and the language model's own weights stay frozen. Values are those of the paper
    and, where it gives none, of the authors' scripts. Unlike the scripts, no beginning-of-text
    token stands before a caption, and the last epoch is kept.

    Parameters
    ----------
    language_model:
        Id of the Hugging Face hub or folder of a causal language model; ``#FILE.gguf`` behind it
        names a GGUF file in it.
    precision:
        Of the language model: ``float32``, ``bfloat16``, ``4bit``, or ``auto``, which says on the
        terminal what it chose.
    visual_tokens:
        Tokens an image becomes.
    template:
        What stands before a caption: ``{image}`` and ``{prompt}``; or ``chat``, the language
        model's own form of a user's message.
    prompt:
        The request, spelt as in the authors' script.
    lora_rank, lora_alpha, lora_dropout, lora_modules:
        The adapters: rank, scale, dropout and the layers they are put on.
    epochs:
        Passes over the training rows.
    projector_rate, adapter_rate:
        AdamW's constant learning rates.
    weight_decay:
        AdamW's.
    batch_size:
        Captions in a step.
    augment:
        Turn, move and colour training images by chance, anew in each epoch.
    max_length:
        Tokens of a caption at most, in training and in writing.
    beams:
        Captions followed side by side in writing; 1 is greedy.
    writing_batch_size:
        Captions written at once.
    references:
        Columns with further reference captions, each a text or a list of texts; they only judge.
    """

    title: ClassVar[str] = "Captions"
    description: ClassVar[str] = (
        "Eight visual tokens from a linear projector (AdamW 4e-4) into a causal language model "
        "with LoRA of rank 8 on queries and values (8e-5), batches of 4, two epochs; greedy."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"caption"})

    language_model: str = "BioMistral/BioMistral-7B"
    precision: Precision = "auto"
    visual_tokens: int = Field(8, ge=1)
    template: str = "[INST] {image} {prompt} [/INST]"
    prompt: str = "Please descript this dermatology image:"
    lora_rank: int = Field(8, ge=1)
    lora_alpha: float = Field(16, gt=0)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    lora_modules: tuple[str, ...] = ("q_proj", "v_proj")
    epochs: int = Field(2, ge=1)
    projector_rate: float = Field(4e-4, gt=0)
    adapter_rate: float = Field(8e-5, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    batch_size: int = Field(4, ge=1)
    augment: bool = True
    max_length: int = Field(256, ge=2)
    beams: int = Field(1, ge=1)
    writing_batch_size: int = Field(16, ge=1)
    references: tuple[str, ...] = ()

    @field_validator("template")
    @classmethod
    def _holds_the_image(cls, template: str) -> str:
        if template != CHAT and template.count(IMAGE) != 1:
            raise ValueError(f"write '{CHAT}' or a text with {IMAGE} once")
        return template

    @property
    def parameters(self) -> dict[str, Any]:
        """The values, the language model's content, and which metrics cannot be computed here."""
        location = Location.parse(self.language_model)
        return {
            **super().parameters,
            "language_model_digest": location.digest(),
            "optimiser": "adamw",
            "selection": "last epoch",
            "missing_tools": sorted(missing_tools()),
        }

    def check(self, task: Task) -> None:
        """Prove that there are captions, reference columns and, in a folder, a language model."""
        for part in ("train", "test"):
            if not len(task.rows(part)):
                raise UserError(f"Task '{task.name}' has no {part} image with a caption.")
        columns = task.manifest.table.column_names
        for column in self.references:
            if column not in columns:
                raise unknown("column in caption.references", column, columns)
        check_folder(Location.parse(self.language_model))

    def check_environment(self) -> None:
        """Prove that the packages and the language model can be had, without loading it."""
        check_reachable(Location.parse(self.language_model))

    def run(self, trial: Trial) -> Outcome:
        """Train on the training rows, write captions of the test rows and judge them."""
        task = trial.task
        for metrics, reason in missing_tools().items():
            console.print(f"{metrics} will be undefined: {reason}")
        location = Location.parse(self.language_model)
        model, tokeniser = load_language_model(location, self.precision, trial.device)
        with seeded(trial.device, trial.seed, _WEIGHTS):
            captioner = Captioner(
                self._lora().adapt(model),
                tokeniser,
                trial.features.shape[1],
                self.visual_tokens,
                self.template,
                self.prompt,
            )
        train, test = task.rows("train"), task.rows("test")
        captions = [captioner.encode(str(task.targets[row]), self.max_length) for row in train]
        optimisation = Optimisation(
            self.epochs,
            self.projector_rate,
            self.adapter_rate,
            self.weight_decay,
            self.batch_size,
            trial.seed,
        )
        work = trial.work
        train_captioner(
            captioner,
            lambda epoch: self._training_features(trial, epoch),
            captions,
            optimisation,
            work and work / "captioner.pt",
        )
        written = write_captions(
            captioner,
            _features(trial, "test"),
            self.max_length,
            self.beams,
            self.writing_batch_size,
            work and work / "captions.json",
        )
        references = [self._references(task, row) for row in test.tolist()]
        columns: dict[str, Sequence[Any]] = {
            "reference": task.targets[test].tolist(),
            "generated": written,
        }
        if self.references:
            columns["references"] = references
        return Outcome(None, columns, caption_scores(references, written))

    def _lora(self) -> Lora:
        return Lora(self.lora_rank, self.lora_alpha, self.lora_dropout, self.lora_modules)

    def _training_features(self, trial: Trial, epoch: int) -> Tensor:
        if not self.augment or trial.encoder is None:
            return _features(trial, "train")
        paths = trial.task.manifest.paths()
        return augmented_features(
            trial.encoder,
            [paths[row] for row in trial.task.rows("train").tolist()],
            (trial.seed, _AUGMENTED, epoch),
            trial.batch_size,
            trial.workers,
        )

    def _references(self, task: Task, row: int) -> list[str]:
        """Return all captions of a row: the task's own first."""
        texts = [str(task.targets[row])]
        for column in self.references:
            value = task.manifest.table[column][row].as_py()
            texts += value if isinstance(value, list) else [value]
        return [str(text) for text in texts if text]


def _features(trial: Trial, split: str) -> Tensor:
    return torch.from_numpy(trial.features[trial.task.rows(split)]).to(trial.device)
