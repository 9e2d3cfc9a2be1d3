"""Fetching one address: tried again after failures, resumed where it broke off, checked."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from dermino import __version__
from dermino.data.download.checks import check_file, stated_md5
from dermino.data.download.failures import Dead, Passing, check_status, sorted_failures
from dermino.data.download.host import Host, Stopped
from dermino.data.download.target import Target
from dermino.errors import DiskFull

T = TypeVar("T")
_LARGEST_PICTURE = 500_000_000  # bytes; a link that is dead may lead to anything


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
            with sorted_failures():
                answer = self._client.get(url)
                check_status(answer)
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
            with sorted_failures():
                stated = self._transfer(target, part)
            return check_file(target, part, stated)

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
            except Passing as failure:
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
                raise Passing("file has changed on its host")
            check_status(answer)
            place = answer.headers.get("Content-Range", "")
            resumed = answer.status_code == 206
            if resumed and not place.startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise Passing("host sent another part than was asked for")
            start = start if resumed else 0
            encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
            length = answer.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() and not encoded else None
            _check_space(part, (total or 0) - start)
            with open(part, "ab" if resumed else "wb") as file:
                # Only now: an old part must never be taken for the beginning of this version.
                _write_validator(part, "" if encoded else _strong_validator(answer.headers))
                # Of a size of our own, the last chunk would be lost when a transfer breaks off.
                for chunk in answer.iter_bytes():
                    file.write(chunk)
                    if target.picture and file.tell() > _LARGEST_PICTURE:
                        raise Dead("picture is too large")
                    if self.stop.is_set():
                        raise Stopped
        if total is not None and _size(part) != total:
            raise Passing("transfer broke off")
        return None if encoded else stated_md5(answer.headers)


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
