"""Fine-tuning the whole encoder, as PanDerm does."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.scheduler import CosineLRScheduler
from torch.utils.data import DataLoader

from dermino.errors import UserError
from dermino.evaluate.classification import Predictions
from dermino.evaluate.finetuning import (
    FinetunedEncoder,
    PlainImages,
    TrainingImages,
    flips_and_turns,
    read_checkpoint,
    write_checkpoint,
)
from dermino.evaluate.kinds import KINDS
from dermino.evaluate.pooled import Aggregate
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.seeding import seeded_libraries
from dermino.evaluate.task import Task, TaskKind
from dermino.progress import console, track


@PROTOCOLS.register("finetune")
class Finetune(EvaluationProtocol):
    """All weights are trained, each layer slower than the one above it (PanDerm, fine-tuning).

    AdamW with linear warm-up and cosine; mixup or cutmix on every batch; classes drawn equally
    often; the epoch with the best validation result is kept, and training stops when it has not
    improved for ``patience`` epochs. A task without validation rows gives a fifth of its training
    rows. Batch, rate, layer decay, stochastic depth, weight decay, mixup and cutmix are those of
    PanDerm's published command; what it does not name (epochs, warm-up, smoothing, policy,
    erasing) is usual for the BEiT recipe its code comes from. The state is kept after every
    epoch, and a killed training goes on from it with equal results.

    Parameters
    ----------
    epochs, warmup_epochs:
        Passes over as many draws as there are training rows; those in which the rate rises.
    patience:
        Epochs without improvement after which training stops.
    monitor:
        Validation metric that chooses the epoch; PanDerm's ``recall`` is ``balanced_accuracy``.
    batch_size:
        Images in a step, or the largest even number of training rows below it.
    learning_rate, min_learning_rate:
        Of the head after warm-up, and at the end.
    layer_decay:
        Factor of the rate from one layer to the one below.
    weight_decay, drop_path, label_smoothing:
        AdamW's decay; stochastic depth in the last block; share spread over all classes.
    mixup, cutmix:
        Alpha of each; 0 for none.
    auto_augment:
        timm's name of a policy; empty for crops and flips alone.
    erasing:
        Probability of erasing a box.
    balanced_sampling:
        Draw every class equally often, with replacement.
    views:
        Views of a picture whose probabilities are averaged: itself, two mirrored, two turned.
    """

    title: ClassVar[str] = "Fine-tuning"
    description: ClassVar[str] = (
        "All weights: AdamW 5e-4 for batches of 128, layer decay 0.65, mixup 0.8, cutmix 1, "
        "classes drawn equally often, best validation epoch, five views at test time."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal"})
    needs: ClassVar[Literal["features", "encoder"]] = "encoder"

    epochs: int = Field(50, ge=1)
    warmup_epochs: int = Field(10, ge=0)
    patience: int = Field(10, ge=1)
    monitor: Literal["balanced_accuracy", "accuracy", "macro_auroc"] = "balanced_accuracy"
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(5e-4, gt=0)
    min_learning_rate: float = Field(1e-6, ge=0)
    layer_decay: float = Field(0.65, gt=0, le=1)
    weight_decay: float = Field(0.05, ge=0)
    drop_path: float = Field(0.2, ge=0, lt=1)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.8, ge=0)
    cutmix: float = Field(1.0, ge=0)
    auto_augment: str = "rand-m9-mstd0.5-inc1"
    erasing: float = Field(0.25, ge=0, le=1)
    balanced_sampling: bool = True
    views: int = Field(5, ge=1, le=5)

    def check(self, task: Task) -> None:
        """Refuse a task with too few images to mix and to validate on."""
        if len(task.rows("train")) < 4:
            raise UserError(
                f"Task '{task.name}' has {len(task.rows('train'))} training images; fine-tuning "
                "needs 4.",
                "Use --protocol few-shot or linear-panderm.",
            )

    def run(self, trial: Trial) -> Outcome:
        """Train a copy of the encoder, and answer with its best epoch."""
        trial = trial.with_validation()
        task = trial.task
        with seeded_libraries(trial.seed):
            model = self._new_model(trial)
        optimiser = torch.optim.AdamW(
            model.parameter_groups(self.weight_decay, self.layer_decay), self.learning_rate
        )
        best: dict[str, torch.Tensor] = {}
        best_epoch, best_value, first = 0, -np.inf, 0
        if state := read_checkpoint(trial.work, trial.device):
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            best, best_epoch, best_value = state["best"], state["best_epoch"], state["best_value"]
            first = state["epoch"]
        for epoch in range(first + 1, self.epochs + 1):
            if epoch - best_epoch > self.patience and best:
                break
            self._train_epoch(model, optimiser, trial, epoch)
            value = self._value(self._answer(model, trial, "val", views=1), task)
            console.print(f"Epoch {epoch} of {self.epochs}: validation {self.monitor} {value:.4f}")
            if value > best_value or not best:
                best, best_epoch, best_value = copy.deepcopy(model.state_dict()), epoch, value
            state = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "best": best,
                "best_epoch": best_epoch,
                "best_value": best_value,
                "epoch": epoch,
            }
            write_checkpoint(trial.work, state)
        model.load_state_dict(best)
        kept = Aggregate(
            "Best epoch", best_epoch, note=f"validation {self.monitor} {best_value:.4f}"
        )
        return Outcome(
            self._answer(model, trial, "test", self.views),
            scores={"best_epoch": kept},
            validation=self._answer(model, trial, "val", self.views),
            validation_rows=task.rows("val"),
        )

    def _new_model(self, trial: Trial) -> FinetunedEncoder:
        if trial.encoder is None:
            raise ValueError("fine-tuning needs the encoder itself")
        return FinetunedEncoder(trial.encoder, len(trial.task.classes), self.drop_path)

    def _train_epoch(
        self,
        model: FinetunedEncoder,
        optimiser: torch.optim.Optimizer,
        trial: Trial,
        epoch: int,
    ) -> None:
        task = trial.task
        rows = task.rows("train")
        random = np.random.default_rng([trial.seed, epoch])
        size = min(self.batch_size, len(rows)) // 2 * 2  # timm's Mixup pairs the images of a batch.
        steps = len(rows) // size
        drawn = self._draw(task, rows, random)[: steps * size]
        seeds = random.integers(2**31, size=len(drawn))
        order = [(int(row), int(seed)) for row, seed in zip(drawn, seeds, strict=True)]
        images = TrainingImages(
            task.manifest.paths(), model.encoder.preprocess, self.auto_augment, self.erasing
        )
        # A sampler may hand the dataset more than a row number; its type does not say so.
        loader: Any = DataLoader(
            images,
            batch_size=size,
            sampler=order,  # type: ignore[arg-type]
            num_workers=_workers(trial),
            pin_memory=trial.device.type == "cuda",
        )
        mix = Mixup(
            self.mixup,
            self.cutmix,
            label_smoothing=self.label_smoothing,
            num_classes=len(task.classes),
            prob=float(self.mixup > 0 or self.cutmix > 0),
        )
        schedule = CosineLRScheduler(
            optimiser,
            t_initial=self.epochs * steps,
            lr_min=self.min_learning_rate,
            warmup_t=min(self.warmup_epochs, self.epochs - 1) * steps,
            t_in_epochs=False,
        )
        targets = torch.from_numpy(task.targets[drawn]).to(trial.device).split(size)
        loss_function = SoftTargetCrossEntropy()
        model.train()
        for step, pixels in enumerate(track(loader, f"{task.name}, epoch {epoch}")):
            schedule.step_update((epoch - 1) * steps + step)
            with seeded_libraries(int(random.integers(2**31))), _precision(trial.device):
                mixed, shares = mix(pixels.to(trial.device), targets[step])
                loss = loss_function(model(mixed), shares)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def _draw(self, task: Task, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if not self.balanced_sampling:
            return random.permutation(rows)
        targets = task.targets[rows]
        weights = 1 / np.bincount(targets)[targets]
        return random.choice(rows, len(rows), p=weights / weights.sum())

    @torch.no_grad()
    def _answer(self, model: FinetunedEncoder, trial: Trial, split: str, views: int) -> Predictions:
        task = trial.task
        rows = task.rows(split)
        images = PlainImages(task.manifest.select(rows).paths(), model.encoder.preprocess)
        loader = DataLoader(images, batch_size=trial.batch_size, num_workers=_workers(trial))
        model.eval()
        parts = []
        for batch in track(loader, f"{task.name}, {split}"):
            pixels = model.encoder.preprocess.normalise(batch.to(trial.device))
            with _precision(trial.device):
                logits = [model(view).double() for view in flips_and_turns(pixels, views)]
            parts.append(torch.stack(logits).softmax(dim=2).mean(dim=0).cpu().numpy())
        scores = np.concatenate(parts)
        return Predictions(task.targets[rows], scores.argmax(axis=1), scores, task.classes)

    def _value(self, predictions: Predictions, task: Task) -> float:
        metric = KINDS[task.kind].metrics[self.monitor]
        return float(metric.replicates(predictions, np.ones((len(predictions), 1), np.float32))[0])


def _workers(trial: Trial) -> int:
    if trial.workers is not None:
        return trial.workers
    return min(torch.get_num_threads(), 16)


def _precision(device: torch.device) -> torch.autocast:
    """Bfloat16 where a GPU computes, full precision on the CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
