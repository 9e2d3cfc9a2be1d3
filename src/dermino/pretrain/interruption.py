"""Being told to stop: the step under way is finished and saved, then the process ends."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# Signals that ask a run to stop; a process that a signal ends has 128 + its number as exit code.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(SystemExit):
    """A run that was told to stop, has written a checkpoint and can be resumed.

    Exit code 143 after SIGTERM (preemption, ``scancel``, ``kill``), 130 after SIGINT (Ctrl-C), as
    shells and schedulers expect of them.

    Parameters
    ----------
    number:
        The signal.
    step, steps:
        Steps that are done and saved, and how many the run has.
    """

    def __init__(self, number: int, step: int, steps: int) -> None:
        super().__init__(128 + number)
        self.message = (
            f"Stopped by {signal.Signals(number).name} after step {step} of {steps}, which is "
            "saved. Go on with --resume."
        )


class Interruption:
    """Notes a signal to stop instead of dying of it; a second Ctrl-C stops at once.

    Signals reach the main thread only: a run in another one leaves them as they are.

    Attributes
    ----------
    number:
        The signal that came; 0 while there is none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # torchrun sends Ctrl-C on to processes that already have it from the terminal.
        twice = self.number == number == signal.SIGINT
        if twice and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        self.number = self.number or number


def heed_only_the_parent(worker: int = 0) -> None:
    """Make a loader's process outlive signals sent to the whole group of a run's processes.

    Schedulers and terminals send them to all; the step under way still needs its images. SIGTERM
    from the run's own process ends it, which is how Python ends its children when it exits.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux alone tells who sent a signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_the_parent, daemon=True).start()


def _wait_for_the_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
