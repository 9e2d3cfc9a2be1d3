"""The live lines of a run: step, time left, images a second, and the losses below."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from dermino.progress import console

_SECONDS_BETWEEN_LINES = 30.0


class TrainingDisplay:
    """Shows progress on a terminal as a bar with the losses below, elsewhere now and then a line.

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
        self._live: Live | None = None
        if enabled and console.is_terminal:
            # The bar takes what the rest of its line leaves; losses would push that rest away.
            self._bar = Progress(
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=None),
                TimeElapsedColumn(),
                TextColumn("{task.fields[pace]}"),
                expand=True,
            )
            self._task = self._bar.add_task("", total=last_step, completed=first_step, pace="")
            self._live = Live(self._bar, console=console)

    def __enter__(self) -> TrainingDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, done: int, record: dict[str, float], terms: list[str]) -> None:
        """Show the state after ``done`` steps."""
        if not self.enabled:
            return
        now = time.monotonic()
        left = (now - self.start) / max(done - self.first_step, 1) * (self.last_step - done)
        losses = " ".join(f"{name} {record[name]:.3f}" for name in ("total", *terms))
        pace = f"{_clock(left)} left, {record['images_per_second']:.0f} images/s"
        if self._live is not None:
            self._bar.update(self._task, completed=done, pace=pace)
            self._live.update(Group(self._bar, Text(losses)))
        elif now - self.shown > _SECONDS_BETWEEN_LINES or done == self.last_step:
            self.shown = now
            # One record, one line, however long: logs are searched by line.
            console.print(f"step {done}/{self.last_step}: {pace}, {losses}", soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
