"""Files that are either whole or absent."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dermino.errors import DiskFull, UserError

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None  # type: ignore[assignment]

_ALMOST_NOTHING = 2**20  # bytes
# The process's mask can only be read by setting it.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic_path(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that replaces ``path`` once written.

    On any error ``path`` keeps its old content and the temporary file is removed.

    Parameters
    ----------
    path:
        The file to write; its folder is made.
    sync:
        Wait until the disk has it, so that it also survives a power cut.

    Raises
    ------
    DiskFull
        If there is no space left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        # Some libraries create files that only the owner can read.
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
        if sync:
            _sync_folder(path.parent)
    except Exception as error:
        if _is_full(path.parent, error):
            raise _full(path) from error
        raise
    finally:
        if temporary.exists():
            # An error may keep the writing library's file open, and with it the space it takes.
            os.truncate(temporary, 0)
            temporary.unlink()


def append_text(path: str | Path, text: str) -> None:
    """Add UTF-8 text to the end of a file, which is made if need be: all of it or nothing.

    Raises
    ------
    DiskFull
        If there is no space left.
    """
    path, rest = Path(path), memoryview(text.encode("utf-8"))
    try:
        with open(path, "ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                while rest:  # A disk that fills takes a part of what it is given.
                    rest = rest[file.write(rest) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(before)
                raise
    except OSError as error:
        if _is_full(path.parent, error):
            raise _full(path) from error
        raise


def _full(path: Path) -> DiskFull:
    return DiskFull(
        f"The disk is full: '{path}' cannot be written.",
        "Free some space, or choose another --out, and run the command again.",
    )


def _is_full(folder: Path, error: Exception) -> bool:
    """Whether a full disk is why writing failed; torch and safetensors hide its error number."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return shutil.disk_usage(folder).free < _ALMOST_NOTHING


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


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of ``folder``, until this one is done or dies.

    Where the file system or the operating system knows no such locks, nothing is kept out.

    Raises
    ------
    UserError
        If another process is in it.
    """
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        # Loader processes outlive a killed run for seconds and would keep it locked.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=file.close)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process is writing to '{folder}'.",
                "Wait until it has finished, or choose another --out.",
            ) from error
        except OSError:  # Some network file systems.
            pass
        yield


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
            "Choose another folder, or change its permissions.",
        ) from error
    return path


def writable_file(path: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Prove that the file ``path`` can be written, before any long work starts.

    Parameters
    ----------
    path:
        The file to write.
    inputs:
        Files that are read, none of which it may replace.

    Raises
    ------
    UserError
        If ``path`` is a folder or an input, or its folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"'{path}' is a folder.", "Give the name of a file.")
    if path.resolve() in {Path(file).resolve() for file in inputs}:
        raise UserError(f"'{path}' is read, and writing to it would lose it.", "Choose another.")
    writable_folder(path.parent)
    return path
