"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Without markup: names of files and datasets may hold [brackets], which it would swallow.
console = Console(stderr=True, highlight=False, markup=False)
T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 15.0


def track(
    items: Iterable[T], description: str, total: int | None = None, *, transient: bool = True
) -> Iterator[T]:
    """Yield from ``items`` while showing how far it is and how long it will take.

    Parameters
    ----------
    items:
        What to iterate over.
    description:
        A few words on what is being done.
    total:
        Number of items, where ``items`` has no length.
    transient:
        Remove the bar when done.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=transient) as progress:
            yield from progress.track(items, total=total, description=description)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - shown > _SECONDS_BETWEEN_LINES:
            shown = now
            remaining = f", {(now - start) / done * (total - done):.0f} s left" if total else ""
            console.print(f"{description}: {done}/{total or '?'}{remaining}")
        yield item
