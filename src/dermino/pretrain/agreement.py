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
    skipped:
        The loss or a gradient was no number, so that nothing was learnt.
    """

    signal: int = 0
    unreadable: bool = False
    skipped: bool = False

    @classmethod
    def reach(cls, signal: int, unreadable: bool, sound: torch.Tensor) -> Agreement:
        """Ask all processes at once.

        Parameters
        ----------
        signal, unreadable:
            What this process knows.
        sound:
            () bool on the run's device, whether loss and gradients are numbers.
        """
        mine = torch.tensor([signal, unreadable], device=sound.device, dtype=torch.int32)
        numbers = all_reduce_max(torch.cat([mine, (~sound).int().reshape(1)]))
        any_signal, any_unreadable, any_skipped = numbers.tolist()
        return cls(any_signal, any_unreadable > 0, any_skipped > 0)
