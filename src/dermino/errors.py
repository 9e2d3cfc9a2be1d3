"""Errors meant for the person at the keyboard, not for a debugger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

_SHOWN = 40
# More names than these are no help when listed in the order of the alphabet.
_MANY = 100
_CLOSE = 8


class UserError(Exception):
    """Something the user can put right.

    The command line prints the message and the remedy, without a traceback, and exits with
    ``exit_code``.

    Parameters
    ----------
    message:
        What is wrong, naming the file, row, column or key.
    remedy:
        What to do about it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message}\n{remedy}")
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[UserError], tuple[Any, ...]]:
        """Cross from one process to another with message and remedy apart."""
        return type(self), (self.message, self.remedy)


class DiskFull(UserError):  # noqa: N818 - the state of a disk.
    """No space is left: nothing is wrong with the input, and the same command works later."""

    exit_code = 1


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option spelt most like ``name``, or None when nothing comes close."""
    by_lower = {option.lower(): option for option in options}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
    """Build the error for a name that is not among ``options``, naming the nearest one."""
    options = sorted({option for option in options if option})
    guess = nearest(name, options)
    hint = f"Did you mean '{guess}'? " if guess else ""
    if guess and len(options) > _MANY:
        close = get_close_matches(name, options, n=_CLOSE, cutoff=0)
        return UserError(f"Unknown {kind} '{name}'.", f"{hint}Near it: {', '.join(close)}.")
    known = first_of(options, _SHOWN) if options else "none"
    return UserError(f"Unknown {kind} '{name}'.", f"{hint}Known: {known}.")


def first_of(items: Sequence[object], number: int, separator: str = ", ") -> str:
    """Join the first items for a message, and say how many more there are."""
    shown = separator.join(str(item) for item in items[:number])
    more = len(items) - number
    return f"{shown}{separator.lstrip(',')}and {more} more" if more > 0 else shown
