"""The training loop, short enough to read in one sitting."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from dermino.errors import UserError
from dermino.pretrain.batch import Batch
from dermino.pretrain.checkpoint import save_checkpoint
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.dataset import REPLACEMENTS, PretrainDataset, StepSampler, build_loader
from dermino.pretrain.display import TrainingDisplay
from dermino.pretrain.distributed import all_gather, all_gather_numbers, all_reduce_max
from dermino.pretrain.interruption import Interrupted, Interruption
from dermino.pretrain.launch import resolve_workers
from dermino.pretrain.logger import open_loggers
from dermino.pretrain.method import Method
from dermino.pretrain.monitors.held_out import HeldOut
from dermino.pretrain.monitors.monitors import Monitors
from dermino.pretrain.nonfinite import NonFiniteSteps
from dermino.pretrain.parameter_groups import apply_schedule, parameter_groups
from dermino.pretrain.schedules import Length, Schedules, StepValues
from dermino.pretrain.streams import Stream, torch_seed
from dermino.pretrain.unreadable import UnreadableImages
from dermino.progress import console


class Trainer:
    """Runs a method over a dataset, from a checkpoint or from the start.

    Parameters
    ----------
    fabric:
        Devices and precision.
    config:
        The recipe.
    method:
        What is trained.
    dataset, labels:
        Views by position, and the labels as concepts (None = no supervision).
    length:
        Number of steps.
    run:
        The run folder.
    held_out:
        Labelled images that are not trained on, for the monitors.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: PretrainConfig,
        method: Method,
        dataset: PretrainDataset,
        labels: Any,
        length: Length,
        run: Path,
        held_out: HeldOut | None = None,
    ) -> None:
        self.fabric, self.config, self.method = fabric, config, method
        self.dataset, self.labels, self.length, self.run = dataset, labels, length, run
        self.schedules = Schedules(config, length, dataset.batch_size)
        optimizer = torch.optim.AdamW(
            parameter_groups(method.rules()), lr=0.0, betas=config.optimizer.betas
        )
        self.module, self.optimizer = fabric.setup(method, optimizer)
        self.monitors = Monitors(fabric, config, method, held_out)
        self.step = 0
        self.interruption = Interruption()
        self._agreed = Agreed()

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        try:
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"The checkpoint in '{self.run}' does not fit the recipe: "
                f"{str(error).splitlines()[0]}",
                "Resume with the recipe, labels and --set values the run was started with.",
            ) from error
        self.step = state["step"]

    def state(self) -> dict[str, Any]:
        """Return all that is needed to continue; random numbers follow from the step."""
        return {
            "step": self.step,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def train(self) -> None:
        """Run all steps that are left.

        Raises
        ------
        Interrupted
            After SIGTERM or SIGINT, once a checkpoint is written.
        """
        fabric, config = self.fabric, self.config
        sampler = StepSampler(
            self.step,
            self.length.steps,
            self.dataset.batch_size,
            fabric.global_rank,
            fabric.world_size,
        )
        on_gpu = fabric.device.type == "cuda"
        workers = resolve_workers(config, fabric)
        loader = build_loader(self.dataset, self.labels, sampler, workers, pin_memory=on_gpu)
        first = fabric.is_global_zero
        loggers = open_loggers(config, self.run, self.step, first)
        skipped = NonFiniteSteps(self.run, self.step, first)
        unreadable = UnreadableImages(self.run, self.dataset.manifest, self.step, first)
        self.module.train()
        window = Window()
        display = TrainingDisplay(self.step, self.length.steps, fabric.is_global_zero)
        with self.interruption, display, loggers:
            for batch in loader:
                window.batch_arrived()
                self._refuse_blank(batch)
                values = self.schedules.at(self.step)
                terms = self.take_step(batch.to(fabric.device).augmented(), values)
                self.step += 1
                last = self.step == self.length.steps
                agreed = self._agreed
                logs = self.step % config.log_every == 0 or last
                saves = self.step % config.checkpoint_every == 0 or last or agreed.signal > 0
                if agreed.unreadable:
                    unreadable.note(self.step, all_gather_numbers(batch.unreadable))
                    unreadable.refuse_many(self.step * self.dataset.batch_size)
                if agreed.skipped:
                    self._note_skipped(skipped, batch, terms)
                elif logs:
                    record = self._record(terms, values, window)
                    record["skipped"] = len(skipped.steps)
                    record |= self.monitors.read(self.step, values, last)
                    loggers.log(record)
                    display.update(self.step, record, list(terms))
                    window = Window()
                if saves:
                    self.save()
                if agreed.signal and not last:
                    raise self._interrupted()
                window.step_done()

    def take_step(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Minimise the sum of the loss terms of one batch.

        Where the loss or a gradient is no number in any process, all leave the method as it was.
        """
        torch.manual_seed(torch_seed(self.config.seed, Stream.STEP, self.step))
        optimizer = self.config.optimizer
        apply_schedule(
            self.optimizer, values.learning_rate, values.last_layer_lr, values.weight_decay
        )
        # Centres, queues and batch statistics move in the forward pass.
        buffers = list(self.method.buffers())
        before = [buffer.clone() for buffer in buffers]
        terms = self.module(batch, values)
        total = torch.stack(list(terms.values())).sum()
        self.fabric.backward(total)
        norms = [
            torch.nn.utils.clip_grad_norm_(module.parameters(), optimizer.clip_grad or math.inf)
            for module in self.method.clipped()
        ]
        sound = torch.stack([total.detach(), *norms]).isfinite().all()
        self._agreed = self._agree(sound, batch)
        if self._agreed.skipped:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        else:
            self.optimizer.step()
            self.method.after_step(values)
        self.optimizer.zero_grad(set_to_none=True)
        return {name: term.detach() for name, term in terms.items()}

    def _interrupted(self) -> Interrupted:
        stop = Interrupted(self._agreed.signal, self.step, self.length.steps)
        if self.fabric.is_global_zero:
            console.print(stop.message)
        return stop

    def _agree(self, sound: torch.Tensor, batch: Batch) -> Agreed:
        """Let every process know what happened to any of them."""
        mine = [self.interruption.number, len(batch.unreadable)]
        numbers = torch.tensor(mine, device=sound.device, dtype=torch.int32)
        numbers = all_reduce_max(torch.cat([numbers, (~sound).int().reshape(1)]))
        signal, unreadable, skipped = numbers.tolist()
        return Agreed(signal, unreadable > 0, skipped > 0)

    def _note_skipped(
        self, skipped: NonFiniteSteps, batch: Batch, terms: dict[str, torch.Tensor]
    ) -> None:
        """Write down what is needed to see a skipped step again, or stop."""
        device = self.fabric.device
        wrong = torch.stack([~term.isfinite() for term in terms.values()]).int().to(device)
        flags = all_reduce_max(wrong).tolist()
        names = [name for name, flag in zip(terms, flags, strict=True) if flag]
        rows = all_gather(batch.rows.to(device)).tolist()
        images = [str(self.dataset.manifest.path(row)) for row in rows]
        skipped.note(self.step, names, seed=self.config.seed, rows=rows, images=images)
        if self.step == self.length.steps == len(skipped.steps):
            skipped.refuse(names)

    def save(self) -> None:
        """Write a checkpoint; the first process does, the others wait."""
        if self.fabric.is_global_zero:
            save_checkpoint(self.run, self.step, self.state(), self.config.keep_checkpoints)
        self.fabric.barrier()

    def _record(
        self, terms: dict[str, torch.Tensor], values: StepValues, window: Window
    ) -> dict[str, float]:
        losses = torch.stack(list(terms.values()))
        losses = self.fabric.all_reduce(losses, reduce_op="mean")
        steps = max(window.steps, 1)
        record = {"step": self.step, "total": float(losses.sum())}
        record.update(zip(terms, losses.tolist(), strict=True))
        record.update(
            learning_rate=values.learning_rate,
            weight_decay=values.weight_decay,
            momentum=values.momentum,
            teacher_temp=values.teacher_temp,
            images_per_second=steps * self.dataset.batch_size / window.seconds,
            data_wait=window.waited / window.seconds,
        )
        return record

    def _refuse_blank(self, batch: Batch) -> None:
        if batch.failure:
            raise UserError(
                f"{REPLACEMENTS} images in a row cannot be read. {batch.failure}",
                "Run dermino data check and train on what it leaves.",
            )


@dataclass(frozen=True)
class Agreed:
    """What happened in a step to any process of the run.

    Parameters
    ----------
    signal:
        The signal to stop; 0 = none.
    unreadable:
        Images had to be replaced.
    skipped:
        The loss or a gradient was no number, so that nothing was learnt.
    """

    signal: int = 0
    unreadable: bool = False
    skipped: bool = False


class Window:
    """Time since the last logged step, and the share of it spent waiting for data."""

    def __init__(self) -> None:
        self.start = self._idle_since = time.perf_counter()
        self.waited = 0.0
        self.steps = 0

    def batch_arrived(self) -> None:
        """A batch is there; the step begins."""
        self.waited += time.perf_counter() - self._idle_since
        self.steps += 1

    def step_done(self) -> None:
        """The step is over; from here on the loop waits."""
        self._idle_since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Length of the window so far."""
        return max(time.perf_counter() - self.start, 1e-9)
