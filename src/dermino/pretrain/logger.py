"""Where the records of a run go, and the registry of all loggers."""

from __future__ import annotations

import importlib.util
import json
import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from dermino.errors import UserError
from dermino.files import write_json
from dermino.pretrain.config import PretrainConfig
from dermino.progress import console
from dermino.registry import Registry

# The summary, the report and ablations read what it writes.
ALWAYS = "jsonl"
_IDS_FILE = "tracking.json"


class Logger(ABC):
    """Receives the numbers of each logged step, and the recipe once; no image, path or label.

    Parameters
    ----------
    config:
        The recipe.
    run:
        The run folder.
    done:
        Steps already done; what an earlier process logged beyond them is to be replaced.

    Attributes
    ----------
    package, extra:
        What has to be importable, and the extra of dermino that brings it; None = always there.
    """

    package: ClassVar[str | None] = None
    extra: ClassVar[str | None] = None

    @abstractmethod
    def __init__(self, config: PretrainConfig, run: Path, done: int) -> None: ...

    @abstractmethod
    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Take the figures of a step."""

    def close(self, finished: bool) -> None:  # noqa: B027 - not all have anything to close.
        """End; ``finished`` is False where an error or a signal cut the run short."""

    @classmethod
    def require(cls, name: str) -> None:
        """Raise a UserError that names the extra if the logger's package is not installed."""
        if cls.package is not None and not _is_installed(cls.package):
            raise UserError(
                f"The logger '{name}' needs the package '{cls.package}', which is not installed.",
                f"pip install dermino[{cls.extra}], or leave it out of loggers.",
            )


LOGGERS: Registry[type[Logger]] = Registry("logger", "dermino.pretrain.loggers", "dermino.loggers")


class Loggers:
    """The loggers of a run, as a context: they are closed when it ends.

    One that fails costs its own records, not the run: it is named, closed and left out from then
    on. ``metrics.jsonl`` has to be written, though.
    """

    def __init__(self, loggers: Mapping[str, Logger]) -> None:
        self._loggers = dict(loggers)

    def log(self, record: Mapping[str, float]) -> None:
        """Hand a record, which has a ``step``, to all of them, without what is no number."""
        step = int(record["step"])
        numbers = {n: v for n, v in record.items() if n != "step" and math.isfinite(v)}
        for name, logger in list(self._loggers.items()):
            try:
                logger.log(step, numbers)
            except Exception as error:
                if name == ALWAYS:
                    raise
                del self._loggers[name]
                _name_failure(name, f"at step {step} and is left out from here on", error)
                with suppress(Exception):
                    logger.close(finished=False)

    def __enter__(self) -> Loggers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, logger in self._loggers.items():
            try:
                logger.close(finished=kind is None)
            except Exception as failure:
                _name_failure(name, "at the end; what it has may be incomplete", failure)


def _name_failure(name: str, when: str, error: Exception) -> None:
    console.print(f"The logger '{name}' failed {when}: {error}", soft_wrap=True)


def require_loggers(names: Sequence[str]) -> None:
    """Check, before any long work, that loggers exist and that their packages are installed."""
    for name in names:
        LOGGERS.get(name).require(name)


def open_loggers(config: PretrainConfig, run: Path, done: int, writes: bool) -> Loggers:
    """Open the loggers of a recipe, and ``jsonl`` in any case; only one process ``writes``.

    Raises
    ------
    UserError
        If one cannot be opened, such as a server that does not answer.
    """
    loggers: dict[str, Logger] = {}
    for name in dict.fromkeys([ALWAYS, *config.loggers]) if writes else ():
        try:
            loggers[name] = LOGGERS.get(name)(config, run, done)
        except Exception as error:
            for opened in loggers.values():
                with suppress(Exception):
                    opened.close(finished=False)
            if name == ALWAYS or isinstance(error, UserError):
                raise
            raise UserError(
                f"The logger '{name}' cannot be opened: {error}",
                "Check its server, account, network or disk, or leave it out of loggers.",
            ) from error
    return Loggers(loggers)


def tracking_id(run: Path, name: str) -> str | None:
    """Return what a tracking service calls the run; None if it has not been told of it."""
    try:
        known = json.loads((run / _IDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = known.get(name) if isinstance(known, dict) else None
    return str(found) if found is not None else None


def keep_tracking_id(run: Path, name: str, value: str | None = None) -> str:
    """Remember what a service calls the run, or make up a name, so that resuming finds it."""
    known = {key: tracking_id(run, key) for key in LOGGERS.names()}
    value = value or secrets.token_hex(8)
    write_json(run / _IDS_FILE, {k: v for k, v in known.items() if v is not None} | {name: value})
    return value


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # A module without a specification has been imported all the same.
        return True
