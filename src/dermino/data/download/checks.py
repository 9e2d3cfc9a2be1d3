"""Whether a file is the one that its publisher and its host speak of."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import httpx2

from dermino.data.download.failures import Passing
from dermino.data.download.target import Target

_CHUNK = 1 << 18
_DIGESTS = ("md5", "sha256")


def stated_md5(headers: httpx2.Headers) -> str | None:
    """Return the MD5 of the whole file, as Google's storage states it in ``x-goog-hash``."""
    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return None  # It is that of the packed file.
    stated = re.search(r"md5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
    return base64.b64decode(stated[1]).hex() if stated else None


def check_file(target: Target, part: Path, host_md5: str | None) -> str:
    """Return a file's SHA-256; a file that is not what was promised is removed.

    Parameters
    ----------
    target:
        What the publisher states of it.
    part:
        The file.
    host_md5:
        What its host states.

    Raises
    ------
    Passing
        If one of them is not the file's.
    """
    found = digests(part)
    if host_md5 not in {None, found["md5"]}:
        part.unlink()
        raise Passing("transfer was damaged")
    wrong = [name for name in _DIGESTS if getattr(target, name) not in {None, found[name]}]
    if target.size is not None and part.stat().st_size != target.size:
        wrong.insert(0, "size")
    if wrong:
        part.unlink()
        raise Passing(f"{wrong[0]} is not the published one")
    return found["sha256"]


def digests(path: Path) -> dict[str, str]:
    """Return MD5 and SHA-256 of a file as hexadecimal text."""
    hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            for value in hashes:
                value.update(chunk)
    return dict(zip(_DIGESTS, (value.hexdigest() for value in hashes), strict=True))
