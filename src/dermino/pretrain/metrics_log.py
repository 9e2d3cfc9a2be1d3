"""``metrics.jsonl``: what happened at each logged step, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dermino.files import write_text

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
    """

    def __init__(self, run: Path, done: int, name: str = FILE_NAME) -> None:
        self.path = run / name
        if self.path.is_file():
            kept = [record for record in read_metrics(run, name) if record["step"] <= done]
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_metrics(run: str | Path, name: str = FILE_NAME) -> list[dict[str, Any]]:
    """Return the records of a run in order; a torn last line is left out."""
    path = Path(run) / name
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
