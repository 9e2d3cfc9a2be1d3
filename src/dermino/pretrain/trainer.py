"""The training loop, short enough to read in one sitting."""

from __future__ import annotations

import csv
import time
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
from dermino.pretrain.distributed import all_reduce_max
from dermino.pretrain.interruption import Interrupted, Interruption
from dermino.pretrain.launch import resolve_workers
from dermino.pretrain.method import Method
from dermino.pretrain.metrics_log import MetricsLog
from dermino.pretrain.parameter_groups import apply_schedule, parameter_groups
from dermino.pretrain.schedules import Length, Schedules, StepValues
from dermino.pretrain.streams import Stream, torch_seed
from dermino.progress import console

UNREADABLE_FILE = "unreadable.csv"


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
    ) -> None:
        self.fabric, self.config, self.method = fabric, config, method
        self.dataset, self.labels, self.length, self.run = dataset, labels, length, run
        self.schedules = Schedules(config, length, dataset.batch_size)
        optimizer = torch.optim.AdamW(
            parameter_groups(method.rules()), lr=0.0, betas=config.optimizer.betas
        )
        self.module, self.optimizer = fabric.setup(method, optimizer)
        self.step = 0
        self.interruption = Interruption()
        self._signal = 0

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
        log = MetricsLog(self.run, self.step) if fabric.is_global_zero else None
        self.module.train()
        window = Window()
        display = TrainingDisplay(self.step, self.length.steps, fabric.is_global_zero)
        with self.interruption, display:
            for batch in loader:
                window.batch_arrived()
                self._note_unreadable(batch)
                values = self.schedules.at(self.step)
                terms = self.take_step(batch.to(fabric.device).augmented(), values)
                self.step += 1
                last = self.step == self.length.steps
                logs = self.step % config.log_every == 0 or last
                saves = self.step % config.checkpoint_every == 0 or last or self._signal > 0
                if logs or saves:
                    self._refuse_divergence(terms)
                if logs:
                    record = self._record(terms, values, window)
                    if log is not None:
                        log.write(record)
                    display.update(self.step, record, list(terms))
                    window = Window()
                if saves:
                    self.save()
                if self._signal and not last:
                    raise self._interrupted()
                window.step_done()

    def take_step(self, batch: Batch, values: StepValues) -> dict[str, torch.Tensor]:
        """Minimise the sum of the loss terms of one batch."""
        torch.manual_seed(torch_seed(self.config.seed, Stream.STEP, self.step))
        optimizer = self.config.optimizer
        apply_schedule(
            self.optimizer, values.learning_rate, values.last_layer_lr, values.weight_decay
        )
        terms = self.module(batch, values)
        total = torch.stack(list(terms.values())).sum()
        self.fabric.backward(total)
        self._signal = self._agree(self.interruption.number)
        if optimizer.clip_grad:
            for module in self.method.clipped():
                torch.nn.utils.clip_grad_norm_(module.parameters(), optimizer.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(values)
        return {name: term.detach() for name, term in terms.items()}

    def _interrupted(self) -> Interrupted:
        stop = Interrupted(self._signal, self.step, self.length.steps)
        if self.fabric.is_global_zero:
            console.print(stop.message)
        return stop

    def _agree(self, number: int) -> int:
        """Return the largest number that any process has, so that all do the same."""
        if self.fabric.world_size == 1:
            return number
        return int(all_reduce_max(torch.tensor(number, device=self.fabric.device)))

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

    def _refuse_divergence(self, terms: dict[str, torch.Tensor]) -> None:
        """Stop before weights that are not numbers are logged, saved and exported."""
        lost = [name for name, term in terms.items() if not term.isfinite()]
        if lost:
            raise UserError(
                f"The loss is no longer a number after step {self.step}: {', '.join(lost)}.",
                "Lower optimizer.base_lr, lengthen optimizer.warmup_epochs, or check the starting "
                "weights. The checkpoints are from before.",
            )

    def _note_unreadable(self, batch: Batch) -> None:
        if not batch.unreadable:
            return
        with open(self.run / UNREADABLE_FILE, "a", newline="", encoding="utf-8") as file:
            for row in batch.unreadable:
                csv.writer(file).writerow([self.step, row, self.dataset.manifest.path(row)])
        if batch.failure:
            raise UserError(
                f"{REPLACEMENTS} images in a row cannot be read. {batch.failure}",
                "Run dermino data check and train on what it leaves.",
            )


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
