"""Fetching one address: tried again after failures, resumed where it broke off, checked."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from dermino import __version__
from dermino.data.download.host import Host, Stopped
from dermino.data.download.target import Target
from dermino.errors import DiskFull

T = TypeVar("T")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 1 << 18
_DIGESTS = ("md5", "sha256")


class Dead(Exception):  # noqa: N818 - the state of an address, listed and not raised to users.
    """An address that gives no usable file: ``reason`` in a few words, alike for all such."""

    def __init__(self, reason: str, detail: str = "", final: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.final = final


class _Passing(Exception):  # noqa: N818
    """A failure after which it is worth trying again."""

    def __init__(self, reason: str, wait: float | None = None, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.unanswered = unanswered


@dataclass(frozen=True)
class Patience:
    """How often and how long to wait.

    Parameters
    ----------
    attempts:
        Tries of one address that bring it no further.
    first_wait, longest_wait:
        Seconds before the second try, doubled for each further one, and where that ends; a host
        that asks for more (Retry-After) is given up for this time.
    timeout:
        Seconds without a single byte.
    """

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 120.0
    timeout: float = 30.0


class Web:
    """A client that all threads share.

    Parameters
    ----------
    patience:
        How often and how long to wait.
    stop:
        Ends transfers; what has come stays for the next time.
    """

    def __init__(self, patience: Patience, stop: threading.Event) -> None:
        self._patience = patience
        self.stop = stop
        self._client = httpx2.Client(
            follow_redirects=True,
            timeout=patience.timeout,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            headers={"User-Agent": f"dermino/{__version__} (dermatology research)"},
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def json(self, url: str, host: Host) -> Any:
        """Return what an API answers; Dead if it does not."""

        def ask() -> Any:
            with _failures():
                answer = self._client.get(url)
                _check_status(answer)
                try:
                    return answer.json()
                except ValueError as error:
                    raise Dead("answer is not JSON", str(error)) from error

        return self._persist(host, ask, progress=lambda: 0)

    def fetch(self, target: Target, part: Path, host: Host) -> str:
        """Fetch an address into ``part``, going on where an earlier try broke off.

        Returns
        -------
        str
            The SHA-256 of the file.

        Raises
        ------
        Dead
            If it cannot be had, or is not what was promised.
        Stopped
            If ``stop`` was set; ``part`` stays.
        """

        def transfer_and_check() -> str:
            with _failures():
                stated = self._transfer(target, part)
            return _checked(target, part, stated)

        part.parent.mkdir(parents=True, exist_ok=True)
        complete = False
        try:
            sha256 = self._persist(host, transfer_and_check, progress=lambda: _size(part))
            complete = True
            return sha256
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise _disk_full(part) from error
            raise
        finally:
            if complete or not part.is_file():
                _validator(part).unlink(missing_ok=True)

    def _persist(self, host: Host, action: Callable[[], T], progress: Callable[[], int]) -> T:
        failures = 0
        while True:
            before = progress()
            host.wait_for_turn()
            try:
                result = action()
            except _Passing as failure:
                host.answered(not failure.unanswered)
                failures = 1 if progress() > before else failures + 1
                wait = failure.wait
                if wait is not None and wait > self._patience.longest_wait:
                    host.given_up = "host asks to be left alone"
                if host.given_up:
                    raise Dead(host.given_up, str(failure), final=False) from failure
                if failures >= self._patience.attempts:
                    raise Dead(str(failure), f"{failures} tries", final=False) from failure
                # Random, or all that failed together would return together.
                backoff = self._patience.first_wait * 2 ** (failures - 1) * random.uniform(0.5, 1)
                host.hold(min(backoff, self._patience.longest_wait) if wait is None else wait)
            except Dead:
                host.answered(True)
                raise
            else:
                host.answered(True)
                return result

    def _transfer(self, target: Target, part: Path) -> str | None:
        """Bring ``part`` to its end; return the file's MD5 where the host states it."""
        start, validator = _size(part), _read_validator(part)
        headers = {"Accept-Encoding": "identity"}
        if start and validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        with self._client.stream("GET", target.url, headers=headers) as answer:
            if answer.status_code == 416:
                part.unlink()
                raise _Passing("file has changed on its host")
            _check_status(answer)
            place = answer.headers.get("Content-Range", "")
            resumed = answer.status_code == 206
            if resumed and not place.startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise _Passing("host sent another part than was asked for")
            start = start if resumed else 0
            encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
            length = answer.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() and not encoded else None
            _check_space(part, (total or 0) - start)
            _write_validator(part, "" if encoded else _strong_validator(answer.headers))
            with open(part, "ab" if resumed else "wb") as file:
                # Of a size of our own, the last chunk would be lost when a transfer breaks off.
                for chunk in answer.iter_bytes():
                    file.write(chunk)
                    if self.stop.is_set():
                        raise Stopped
        if total is not None and _size(part) != total:
            raise _Passing("transfer broke off")
        return None if encoded else _stated_md5(answer.headers)


@contextmanager
def _failures() -> Iterator[None]:
    """Sort the client's errors into those that may pass and those that stay."""
    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, ValueError) as error:
        raise Dead("address cannot be used", str(error)) from error
    except httpx2.TooManyRedirects as error:
        raise Dead("too many redirects") from error
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise _Passing("host cannot be reached", unanswered=True) from error
    except httpx2.TimeoutException as error:
        raise _Passing("host is too slow") from error
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise _Passing("transfer broke off") from error


def _check_status(answer: httpx2.Response) -> None:
    code = answer.status_code
    if code in _PASSING:
        raise _Passing(f"HTTP {code}", wait=_retry_after(answer.headers.get("Retry-After")))
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


def _stated_md5(headers: httpx2.Headers) -> str | None:
    """Return the MD5 of the whole file, as Google's storage states it in ``x-goog-hash``."""
    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return None  # It is that of the packed file.
    stated = re.search(r"md5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
    return base64.b64decode(stated[1]).hex() if stated else None


def _checked(target: Target, part: Path, stated_md5: str | None) -> str:
    """Return the file's SHA-256; a file that is not what was promised is removed."""
    found = digests(part)
    if stated_md5 not in {None, found["md5"]}:
        part.unlink()
        raise _Passing("transfer was damaged")
    wrong = [name for name in _DIGESTS if getattr(target, name) not in {None, found[name]}]
    if target.size is not None and _size(part) != target.size:
        wrong.insert(0, "size")
    if wrong:
        part.unlink()
        raise _Passing(f"{wrong[0]} is not the published one")
    return found["sha256"]


def digests(path: Path) -> dict[str, str]:
    """Return MD5 and SHA-256 of a file as hexadecimal text."""
    hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            for value in hashes:
                value.update(chunk)
    return dict(zip(_DIGESTS, (value.hexdigest() for value in hashes), strict=True))


def _check_space(part: Path, size: int) -> None:
    if size > shutil.disk_usage(part.parent).free:
        raise _disk_full(part)


def _disk_full(part: Path) -> DiskFull:
    return DiskFull(
        f"The disk has no room for '{part.with_suffix('')}'.",
        "Free some space, or choose another --out, and run the command again: it goes on.",
    )


def _strong_validator(headers: httpx2.Headers) -> str:
    """What tells whether the file is still the same; a weak ETag does not."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _read_validator(part: Path) -> str:
    try:
        return _validator(part).read_text("latin-1")
    except FileNotFoundError:
        return ""


def _write_validator(part: Path, text: str) -> None:
    _validator(part).write_text(text, "latin-1")


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
