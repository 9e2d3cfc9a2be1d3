"""Random numbers by address: a purpose and a number give a generator, with no state to save.

Because nothing depends on what was drawn before, a run is the same whatever the number of workers
or devices, and can be taken up at any step.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for; different purposes never share a generator."""

    ORDER = 1
    SAMPLE = 2
    MASK_TARGETS = 3
    REPLACEMENT = 4
    STEP = 5
    PATHS = 6
    HELD_OUT = 7
    SOURCE = 8


def generator(seed: int, stream: Stream, number: int) -> np.random.Generator:
    """Return the generator of one epoch, sample or step of a run.

    Parameters
    ----------
    seed:
        The run's.
    stream:
        What the numbers are for.
    number:
        Of the epoch, sample or step, from 0.
    """
    return np.random.Generator(np.random.Philox(key=[(seed << 8) | stream, number]))


def torch_seed(seed: int, stream: Stream, number: int) -> int:
    """Return a seed for torch's generators, drawn from the same address."""
    return int(generator(seed, stream, number).integers(2**63))
