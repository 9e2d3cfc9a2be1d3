"""Being polite to one host: requests at a distance, and none while it asks to be left alone."""

from __future__ import annotations

import threading
import time

_SILENT_AFTER = 3


class Stopped(Exception):  # noqa: N818 - not an error: the user wants to stop.
    """The download was told to stop."""


class Host:
    """When a host may be asked next; shared by all that ask it.

    Parameters
    ----------
    delay:
        Seconds between the starts of two requests.
    stop:
        Ends all waiting.

    Attributes
    ----------
    given_up:
        Why it is not asked any more in this call, if it is not.
    """

    def __init__(self, delay: float, stop: threading.Event) -> None:
        self._delay = delay
        self._stop = stop
        self._lock = threading.Lock()
        self._next = 0.0
        self._held_until = 0.0
        self._unanswered = 0
        self.given_up = ""

    def wait_for_turn(self) -> None:
        """Wait until a request may start; Stopped if there will be none."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._delay
        # A longer hold may be asked for by the answer to another request while this one waits.
        while (seconds := max(start, self._held_until) - time.monotonic()) > 0:
            if self._stop.wait(seconds):
                raise Stopped
        if self._stop.is_set():
            raise Stopped

    def hold(self, seconds: float) -> None:
        """Let no request start for so long."""
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + seconds)

    def answered(self, yes: bool) -> None:
        """Note whether a request was answered at all, be it by an error; give up after three."""
        with self._lock:
            self._unanswered = 0 if yes else self._unanswered + 1
            if self._unanswered >= _SILENT_AFTER:
                self.given_up = "host does not answer"
