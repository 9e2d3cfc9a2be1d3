"""``metrics.jsonl``: what happened at each logged step, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dermino.errors import UserError
from dermino.files import append_text, write_text

FILE_NAME = "metrics.jsonl"


class StepLog:
    """Appends records and survives being killed in the middle of a line.

    Parameters
    ----------
    run:
        The run folder.
    done:
        Steps already done; later records are dropped, a resumed run writes them again.
    name:
        Name of the file; every record has a ``step``.

    Raises
    ------
    UserError
        If what is there cannot be read.
    """

    def __init__(self, run: Path, done: int, name: str = FILE_NAME) -> None:
        self.path = run / name
        if self.path.is_file():
            kept = [record for record in read_metrics(run, name) if record["step"] <= done]
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; a DiskFull error if there is no space for it."""
        append_text(self.path, json.dumps(record, allow_nan=False) + "\n")


def read_metrics(run: str | Path, name: str = FILE_NAME) -> list[dict[str, Any]]:
    """Return the records of a run in order; a torn last line is left out.

    Figures that were no numbers at a step are absent from its record.

    Raises
    ------
    UserError
        If a line is no record of a step.
    """
    path = Path(run) / name
    if not path.is_file():
        return []
    records = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif line.strip() and number < len(lines):  # Only the last line has no line break.
            raise UserError(
                f"Line {number} of '{path}' is no record of a step.",
                "Remove that line, or the file: nothing else of the run is lost with it.",
            )
    return records


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    whole = isinstance(record, dict) and type(record.get("step")) is int
    return record if whole else None
