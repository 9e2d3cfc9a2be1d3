"""Weights from public hubs, through the hubs' own libraries, and what to do where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dermino.errors import UserError
from dermino.progress import console

# Two warnings a try come from here, and there are six tries a file.
_RETRIES = logging.getLogger("huggingface_hub.utils._http")
T = TypeVar("T")


def fetch(what: str, get: Callable[[], T], by_hand: str) -> T:
    """Call a library's download function, turning its failures into one message.

    Parameters
    ----------
    what:
        What is fetched, for the message.
    get:
        The library's function, without arguments.
    by_hand:
        How to go on without a connection.

    Raises
    ------
    UserError
        If the hub cannot be reached, has no such model, or wants its terms accepted first.
    """
    try:
        with _retries_said_once():
            return get()
    except Exception as error:  # The hub clients raise many kinds, none of them ours.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if _is_gated(error):
            reason = "its publisher wants the terms accepted first."
            by_hand = (
                "Accept them on the model's page, log in with: hf auth login, and run the command "
                f"again. {by_hand}"
            )
        raise UserError(f"The weights of {what} could not be fetched: {reason}", by_hand) from error


def download_file(what: str, address: str, by_hand: str) -> Path:
    """Fetch one file of a Hugging Face repository, or find it in the cache.

    ``address`` is ``ORGANISATION/REPOSITORY/PATH``; raises as :func:`fetch`.
    """
    from huggingface_hub import hf_hub_download

    organisation, repository, file = address.split("/", 2)
    name = f"{organisation}/{repository}"
    return Path(fetch(what, lambda: hf_hub_download(name, file), by_hand))


@contextmanager
def _retries_said_once() -> Iterator[None]:
    """Say in one line that the hub does not answer, however often it is asked again."""
    said = False

    def filtered(record: logging.LogRecord) -> bool:
        nonlocal said
        message = record.getMessage()
        if "Retrying in" not in message and "thrown while requesting" not in message:
            return True
        if not said:
            console.print("The hub does not answer; trying again for up to a minute.")
        said = True
        return False

    _RETRIES.addFilter(filtered)
    try:
        yield
    finally:
        _RETRIES.removeFilter(filtered)


def _is_gated(error: BaseException | None) -> bool:
    """Whether a refusal lies behind ``error``; libraries wrap the hub's own exception."""
    while error is not None:
        if type(error).__name__ == "GatedRepoError":
            return True
        error = error.__cause__ or error.__context__
    return False
