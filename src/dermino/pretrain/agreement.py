"""What happened in a step to any process of the run, so that all of them act alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
