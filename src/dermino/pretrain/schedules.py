"""What changes from step to step: learning rates, weight decay, momentum, temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dermino.pretrain.config import PretrainConfig


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up from ``start`` to ``base``, then half a cosine to ``final``.

    As DINOv2's: the warm-up reaches ``base`` on its last step, and from ``total`` on the value is
    ``final``.

    Parameters
    ----------
    base, final:
        Values at the top and at the end.
    total:
        Number of steps.
    warmup:
        How many of them are warm-up.
    start:
        Value at step 0 of the warm-up.
    """

    base: float
    final: float
    total: int
    warmup: int = 0
    start: float = 0.0

    def __call__(self, step: int) -> float:
        """Return the value at ``step``."""
        if step >= self.total:
            return self.final
        if step < self.warmup:
            if self.warmup == 1:
                return self.start
            return self.start + (self.base - self.start) * step / (self.warmup - 1)
        progress = (step - self.warmup) / (self.total - self.warmup)
        return self.final + 0.5 * (self.base - self.final) * (1 + math.cos(math.pi * progress))


# Not frozen: Fabric's mixed precision walks through what a module is given and writes copies.
@dataclass
class StepValues:
    """The scheduled values of one step; ``epoch`` counts the recipe's epochs from 0."""

    learning_rate: float
    last_layer_lr: float
    weight_decay: float
    momentum: float
    teacher_temp: float
    epoch: float


@dataclass(frozen=True)
class Length:
    """How long a run is, however it was asked for.

    Parameters
    ----------
    steps:
        Optimiser steps.
    epoch_length:
        Steps that the recipe's schedules count as an epoch; need not be whole.
    true_epochs:
        Passes over the images.
    """

    steps: int
    epoch_length: float
    true_epochs: float

    @classmethod
    def of(cls, config: PretrainConfig, num_images: int, batch_size: int) -> Length:
        """Work out the length of a run over ``num_images`` with a global ``batch_size``."""
        if config.steps is not None:
            steps, epoch_length = config.steps, config.steps / config.epochs
        else:
            epoch_length = config.epoch_length or num_images / batch_size
            steps = max(round(config.epochs * epoch_length), 1)
        return cls(steps, epoch_length, steps * batch_size / num_images)

    def in_steps(self, epochs: float) -> int:
        """Convert epochs of the recipe to steps."""
        # A product such as 0.29 x 400 may lie a rounding error below the whole number.
        return int(epochs * self.epoch_length + 1e-6)


def scaled_lr(config: PretrainConfig, batch_size: int) -> float:
    """Return the peak learning rate of a batch over all devices."""
    optimizer = config.optimizer
    if optimizer.scale_lr == "linear":
        return optimizer.base_lr * batch_size / 256
    if optimizer.scale_lr == "sqrt":
        return optimizer.base_lr * math.sqrt(batch_size / 1024)
    return optimizer.base_lr


class Schedules:
    """All schedules of a run.

    Parameters
    ----------
    config:
        The recipe.
    length:
        Steps and epoch length.
    batch_size:
        Images of one step over all devices, for the learning rate.
    """

    def __init__(self, config: PretrainConfig, length: Length, batch_size: int) -> None:
        optimizer, loss, steps = config.optimizer, config.loss, length.steps
        self._length = length
        warmup = min(length.in_steps(optimizer.warmup_epochs), steps)
        temp_warmup = length.in_steps(loss.warmup_teacher_temp_epochs)
        peak = scaled_lr(config, batch_size)
        self._learning_rate = CosineSchedule(peak, optimizer.min_lr, steps, warmup)
        self._weight_decay = CosineSchedule(
            optimizer.weight_decay, optimizer.weight_decay_end, steps
        )
        self._momentum = CosineSchedule(
            optimizer.momentum_teacher, optimizer.momentum_teacher_end, steps
        )
        self._teacher_temp = CosineSchedule(
            loss.teacher_temp, loss.teacher_temp, temp_warmup, temp_warmup, loss.warmup_teacher_temp
        )
        self._frozen_steps = length.in_steps(optimizer.freeze_last_layer_epochs)

    def at(self, step: int) -> StepValues:
        """Return the values of ``step``, counted from 0."""
        learning_rate = self._learning_rate(step)
        return StepValues(
            learning_rate=learning_rate,
            last_layer_lr=0.0 if step < self._frozen_steps else learning_rate,
            weight_decay=self._weight_decay(step),
            momentum=self._momentum(step),
            teacher_temp=self._teacher_temp(step),
            epoch=step / self._length.epoch_length,
        )
