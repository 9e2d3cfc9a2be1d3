"""How fast a run goes, and how long it waits for data."""

from __future__ import annotations

import time


class Window:
    """Time since the last logged step, and the share of it spent waiting for data."""

    def __init__(self) -> None:
        self.start = self._idle_since = time.perf_counter()
        self.waited = 0.0
        self.steps = 0

    def batches_arrived(self) -> None:
        """The batches of a step are there; the step begins."""
        self.waited += time.perf_counter() - self._idle_since
        self.steps += 1

    def step_done(self) -> None:
        """The step is over; from here on the loop waits."""
        self._idle_since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Length of the window so far."""
        return max(time.perf_counter() - self.start, 1e-9)
