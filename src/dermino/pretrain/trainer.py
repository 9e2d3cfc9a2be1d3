"""The training loop, short enough to read in one sitting."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dermino.errors import UserError
from dermino.pretrain.agreement import Agreement
from dermino.pretrain.allocator import freed_memory_kept
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.dataset import PretrainDataset, StepSampler, build_loader
from dermino.pretrain.display import TrainingDisplay
from dermino.pretrain.distributed import (
    all_gather,
    all_gather_numbers,
    all_reduce_max,
    all_reduce_sum,
)
from dermino.pretrain.fabric import Fabric
from dermino.pretrain.interruption import Interrupted, Interruption
from dermino.pretrain.journal import Journal
from dermino.pretrain.launch import compile_blocks, resolve_workers
from dermino.pretrain.method import Method
from dermino.pretrain.monitors.held_out import HeldOut
from dermino.pretrain.monitors.monitors import Monitors
from dermino.pretrain.parameter_groups import apply_schedule, parameter_groups
from dermino.pretrain.schedules import Length, Schedules, StepValues
from dermino.pretrain.sharding import clip_gradients, load_whole, whole
from dermino.pretrain.stochastic_depth import StochasticDepth
from dermino.pretrain.streams import Stream, torch_seed
from dermino.pretrain.throughput import Window
from dermino.pretrain.unreadable import no_replacement
from dermino.progress import console

# Names of weights fill pages.
_SHOWN_OF_A_REASON = 400


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
        self.accumulate = config.accumulate_grad_batches
        self.batch_size = dataset.batch_size * self.accumulate
        self.schedules = Schedules(config, length, self.batch_size)
        options, blocks = config.model, len(method.encoder.blocks)
        self.stochastic_depth = StochasticDepth(options.drop_path, blocks, config.seed)
        if config.compile:
            steady = self.stochastic_depth.keeps_shapes(dataset.batch_size, fabric.world_size)
            if options.checkpoint_activations and not steady:
                raise UserError(
                    "compile and model.checkpoint_activations need steps of equal shapes.",
                    "Use a batch_size_per_device divisible by 16, or leave one of them out.",
                )
            compile_blocks(method, dynamic=not steady)
        # Sharding replaces the parameters, so the optimiser comes second.
        self.module = fabric.setup_module(method)
        optimizer = torch.optim.AdamW(
            parameter_groups(method.rules()),
            lr=0.0,
            betas=config.optimizer.betas,
            fused=True,
        )
        self.optimizer = fabric.setup_optimizers(optimizer)
        self.monitors = Monitors(fabric, config, method, held_out)
        self.step = 0
        self.interruption = Interruption()
        self._agreed = Agreement()
        self._journal: Journal | None = None

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; a UserError if it is of another method or recipe."""
        try:
            load_whole(self.method, self.optimizer, state["method"], state["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = textwrap.shorten(str(error), _SHOWN_OF_A_REASON, placeholder=" ...")
            raise UserError(
                f"The checkpoint of step {state['step']} in '{self.run}' does not fit the recipe: "
                f"{reason}",
                "Resume with the recipe, labels and --set values the run was started with. If they "
                "are, the file is of another run: remove it to go on from the one before.",
            ) from error
        self.step = state["step"]

    def state(self) -> dict[str, Any]:
        """Return all that is needed to continue; random numbers follow from the step.

        Every process has to ask, since each may hold only a part.
        """
        return {
            "step": self.step,
            "method": whole(self.method.state_dict()),
            "optimizer": whole(self.optimizer.state_dict()),
        }

    def train(self) -> None:
        """Run all steps that are left.

        Raises
        ------
        Interrupted
            After SIGTERM or SIGINT, once a checkpoint is written.
        UserError
            If too many steps or images come to nothing, once a checkpoint is written.
        DiskFull
            If there is no space left.
        """
        fabric, config, steps = self.fabric, self.config, self.length.steps
        sampler = StepSampler(
            self.step * self.accumulate,
            steps * self.accumulate,
            self.dataset.batch_size,
            fabric.global_rank,
            fabric.world_size,
        )
        workers, on_gpu = resolve_workers(config, fabric), fabric.device.type == "cuda"
        loader = build_loader(self.dataset, self.labels, sampler, workers, pin_memory=on_gpu)
        images = self.dataset.manifest
        journal = Journal(fabric, config, self.run, images, self.batch_size, self.step, steps)
        self._journal = journal
        self.module.train()
        window, display = Window(), TrainingDisplay(self.step, steps, fabric.is_global_zero)
        memory = freed_memory_kept(fabric.device)
        with memory, self.interruption, display, journal.loggers:
            for batches in zip(*[iter(loader)] * self.accumulate, strict=True):
                window.batches_arrived()
                values = self.schedules.at(self.step)
                terms = self.take_step(self._on_device(batches), values)
                agreed = self._agreed
                self._note_what_was_wrong(journal, batches, terms)
                if agreed.stops:
                    raise self._stopped_before_a_step(journal, batches)
                self.step += 1
                last = self.step == steps
                refusal = journal.refusal(self.step)
                if self.step % config.log_every == 0 or last:
                    record = self._record(terms, values, window)
                    record["skipped"] = len(journal.skipped.noted)
                    record |= self.monitors.read(self.step, values, last)
                    journal.log(record)
                    display.update(self.step, record, list(terms))
                    window = Window()
                if refusal is not None:
                    # With its last step saved, a run has only to be resumed to be finished.
                    raise journal.refuse(refusal, self.step, None if last else self.state())
                if self.step % config.checkpoint_every == 0 or last or agreed.signal:
                    journal.save(self.step, self.state(), doubtful=agreed.skipped)
                if agreed.signal and not last:
                    raise self._interrupted()
                window.step_done()

    def take_step(self, batches: Iterable[Batch], values: StepValues) -> dict[str, torch.Tensor]:
        """Minimise the sum of the loss terms, averaged over the batches of one step.

        Where the loss or a gradient is no number in any process, or one of them cannot go on, all
        leave the method as it was.

        Parameters
        ----------
        batches:
            As many as gradients are accumulated over, augmented, on the device; may be made one by
            one, so that one at a time is held.
        values:
            The schedules' values.

        Returns
        -------
        The terms by name, () float32, of this process.
        """
        apply_schedule(
            self.optimizer, values.learning_rate, values.last_layer_lr, values.weight_decay
        )
        # Centres, queues and batch statistics move in the forward pass.
        buffers = list(self.method.buffers())
        before = [buffer.clone() for buffer in buffers]
        parts, unreadable, blank = [], False, False
        for part, batch in enumerate(batches):
            parts.append(self._backward(batch, part, values))
            unreadable |= bool(batch.unreadable)
            blank |= bool(batch.failure)
        terms = {name: torch.stack([p[name] for p in parts]).mean(dim=0) for name in parts[0]}
        limit = self.config.optimizer.clip_grad or math.inf
        norms = [clip_gradients(module, limit) for module in self.method.clipped()]
        sound = torch.stack([*terms.values(), *norms]).isfinite().all()
        trouble = self._journal is not None and self._journal.in_trouble
        signal = self.interruption.number
        self._agreed = Agreement.reach(signal, unreadable, blank, trouble, sound)
        if self._agreed.skipped or self._agreed.stops:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        else:
            self.optimizer.step()
            self.method.after_step(values)
        self.optimizer.zero_grad(set_to_none=True)
        return terms

    def _backward(self, batch: Batch, part: int, values: StepValues) -> dict[str, torch.Tensor]:
        """Add the gradients of one batch; processes exchange them after the last one of a step."""
        number, rank = self.step * self.accumulate + part, self.fabric.global_rank
        seed = torch_seed(self.config.seed, Stream.STEP, number * self.fabric.world_size + rank)
        torch.manual_seed(seed)
        batch = self.stochastic_depth.apply(batch, number, rank, self.dataset.batch_size)
        unfinished = part + 1 < self.accumulate
        with self.fabric.no_backward_sync(self.module, enabled=unfinished):
            terms = self.module(batch, values)
            self.fabric.backward(torch.stack(list(terms.values())).sum() / self.accumulate)
        return {name: term.detach() for name, term in terms.items()}

    def _on_device(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        """Yield batches augmented, knowing how many images of the whole step have labels."""
        device, labelled = self.fabric.device, None
        if len(batches) > 1:
            counts = [batch.known.any(dim=1).sum() for batch in batches]
            total = all_reduce_sum(torch.stack(counts).sum().float().to(device))
            labelled = total / (len(batches) * self.fabric.world_size)
        for batch in batches:
            yield replace(batch.to(device).augmented(), labelled=labelled)

    def _interrupted(self) -> Interrupted:
        stop = Interrupted(self._agreed.signal, self.step, self.length.steps)
        if self.fabric.is_global_zero:
            console.print(stop.message)
        return stop

    def _note_what_was_wrong(
        self, journal: Journal, batches: Sequence[Batch], terms: dict[str, torch.Tensor]
    ) -> None:
        """Write down the images that a step had to replace, and what to see it again if skipped."""
        step, device = self.step + 1, self.fabric.device
        if self._agreed.unreadable:
            mine = [row for batch in batches for row in batch.unreadable]
            journal.note_unreadable(step, all_gather_numbers(mine))
        if self._agreed.skipped and not self._agreed.stops:
            wrong = torch.stack([~term.isfinite() for term in terms.values()]).int().to(device)
            flags = all_reduce_max(wrong).tolist()
            names = [name for name, flag in zip(terms, flags, strict=True) if flag]
            rows = all_gather(torch.cat([batch.rows for batch in batches]).to(device)).tolist()
            journal.note_skipped(step, names, self.config.seed, rows)

    def _stopped_before_a_step(self, journal: Journal, batches: Sequence[Batch]) -> UserError:
        """Return why there cannot be a next step; the steps before it are saved."""
        journal.stop_if_in_trouble()
        reason = next((batch.failure for batch in batches if batch.failure), "")
        state = self.state() if self.step else None
        return journal.refuse(no_replacement(reason), self.step, state)

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
            images_per_second=steps * self.batch_size / window.seconds,
            data_wait=window.waited / window.seconds,
        )
        return record
