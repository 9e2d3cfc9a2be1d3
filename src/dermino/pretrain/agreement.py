"""What happened to any process of the run, so that all of them act alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dermino.errors import UserError
from dermino.pretrain.distributed import all_reduce_max


@dataclass(frozen=True)
class Agreement:
    """What happened in a step to any process.

    Parameters
    ----------
    signal:
        The signal to stop; 0 = none.
    unreadable:
        Images had to be replaced.
    blank:
        No image could take the place of one, so that there is no such step.
    trouble:
        A process cannot go on, so that there is no such step either.
    skipped:
        The loss or a gradient was no number, so that nothing was learnt.
    """

    signal: int = 0
    unreadable: bool = False
    blank: bool = False
    trouble: bool = False
    skipped: bool = False

    @property
    def stops(self) -> bool:
        """Whether the step does not count and the run cannot go on."""
        return self.blank or self.trouble

    @classmethod
    def reach(
        cls, signal: int, unreadable: bool, blank: bool, trouble: bool, sound: torch.Tensor
    ) -> Agreement:
        """Ask all processes at once.

        Parameters
        ----------
        signal, unreadable, blank, trouble:
            What this process knows.
        sound:
            () bool on the run's device, whether loss and gradients are numbers.
        """
        known = [signal, unreadable, blank, trouble]
        mine = torch.tensor(known, device=sound.device, dtype=torch.int32)
        numbers = all_reduce_max(torch.cat([mine, (~sound).int().reshape(1)]))
        any_signal, *others = numbers.tolist()
        return cls(any_signal, *(number > 0 for number in others))


def stop_together(trouble: Exception | None, device: torch.device) -> None:
    """Stop all processes if one of them cannot go on; every process has to ask.

    Parameters
    ----------
    trouble:
        Why this one cannot; None = it can.
    device:
        The run's.

    Raises
    ------
    Exception
        The trouble, in the process that has it, and a UserError in the others.
    """
    if all_reduce_max(torch.tensor(trouble is not None, dtype=torch.int32, device=device)):
        raise trouble or UserError("Another process of this run had to stop; it says why.")


@contextmanager
def failing_together(device: torch.device) -> Iterator[None]:
    """Stop all processes at the end of the block where one of them has failed within it.

    For what one process does without the others, which would else wait for it; every process has
    to enter the block, and none may wait for another within.
    """
    trouble = None
    try:
        yield
    except Exception as error:
        trouble = error
    stop_together(trouble, device)
