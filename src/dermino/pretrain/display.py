"""The live line of a run: step, losses, images a second, time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dermino.progress import console

_SECONDS_BETWEEN_LINES = 30.0


class TrainingDisplay:
    """Shows progress on a terminal as a bar, elsewhere as a line every half minute.

    Parameters
    ----------
    first_step, last_step:
        Where this process starts and where the run ends.
    enabled:
        Only one process of a run shows anything.
    """

    def __init__(self, first_step: int, last_step: int, enabled: bool) -> None:
        self.first_step, self.last_step = first_step, last_step
        self.enabled = enabled
        self.start = self.shown = time.monotonic()
        self._bar: Progress | None = None
        if enabled and console.is_terminal:
            columns = (
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("", total=last_step, completed=first_step, text="")

    def __enter__(self) -> TrainingDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, record: dict[str, float], terms: list[str]) -> None:
        """Show the state after ``done`` steps."""
        if not self.enabled:
            return
        now = time.monotonic()
        left = (now - self.start) / max(done - self.first_step, 1) * (self.last_step - done)
        losses = " ".join(f"{name} {record[name]:.3f}" for name in ("total", *terms))
        speed = record["images_per_second"]
        text = f"{losses} | {speed:.0f} images/s | {_clock(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
        elif now - self.shown > _SECONDS_BETWEEN_LINES or done == self.last_step:
            self.shown = now
            console.print(f"step {done}/{self.last_step} {text}")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
