"""Files that are either whole or absent."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dermino.errors import UserError

# The process's mask can only be read by setting it.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that replaces ``path`` once written and synced.

    On any error ``path`` keeps its old content and the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # Some libraries create files that only the owner can read.
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders; the rename itself is still atomic.
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def writable_folder(path: str | Path) -> Path:
    """Create ``path`` and prove that it can be written to, before any long work starts.

    Raises
    ------
    UserError
        If ``path`` is a file, or cannot be created or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"Cannot write to the folder '{path}': {error.strerror or error}.",
            "Choose another --out, or change the folder's permissions.",
        ) from error
    return path


def writable_file(path: str | Path) -> Path:
    """Prove that the file ``path`` can be written, before any long work starts.

    Raises
    ------
    UserError
        If ``path`` is a folder or its folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"'{path}' is a folder.", "Give --out the name of a file.")
    writable_folder(path.parent)
    return path
