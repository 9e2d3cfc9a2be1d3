"""What can go wrong with an address: what may pass, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Dead(Exception):  # noqa: N818 - the state of an address, listed and not raised to users.
    """An address that gives no usable file: ``reason`` in a few words, alike for all such."""

    def __init__(self, reason: str, detail: str = "", final: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.final = final


class Passing(Exception):  # noqa: N818
    """A failure after which it is worth trying again."""

    def __init__(self, reason: str, wait: float | None = None, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.unanswered = unanswered


@contextmanager
def sorted_failures() -> Iterator[None]:
    """Sort the client's errors into those that may pass and those that stay."""
    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, ValueError) as error:
        raise Dead("address cannot be used", str(error)) from error
    except httpx2.TooManyRedirects as error:
        raise Dead("too many redirects") from error
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise Passing("host cannot be reached", unanswered=True) from error
    except httpx2.TimeoutException as error:
        raise Passing("host is too slow") from error
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise Passing("transfer broke off") from error


def check_status(answer: httpx2.Response) -> None:
    """Raise Passing or Dead unless the answer is what was asked for."""
    code = answer.status_code
    if code in _PASSING:
        raise Passing(f"HTTP {code}", wait=_retry_after(answer.headers.get("Retry-After")))
    if code not in {200, 206}:
        raise Dead(f"HTTP {code}")


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or a date."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
