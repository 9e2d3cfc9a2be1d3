"""What was fetched, when and from where, beside the files: ``downloaded.jsonl``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAME = "downloaded.jsonl"


class Record:
    """One line a target, written as soon as it is done, so that nothing is forgotten by a kill.

    Parameters
    ----------
    folder:
        Where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._lines: dict[str, dict[str, Any]] = {}
        if not self._path.is_file():
            return
        for line in self._path.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
                self._lines[entry["path"]] = entry
            except (ValueError, KeyError, TypeError):  # Cut off by a kill: as if not there.
                continue
        if not self._path.read_bytes().endswith(b"\n"):
            with open(self._path, "a", encoding="utf-8") as file:
                file.write("\n")

    def dead(self, path: str, url: str) -> str | None:
        """Why an address was given up for good, if it was."""
        entry = self._lines.get(path, {})
        return entry.get("dead") if entry.get("url") == url else None

    def size(self, path: str) -> int | None:
        """How many bytes were fetched, if they were."""
        return self._lines.get(path, {}).get("bytes")

    def add(self, path: str, url: str, **what: object) -> None:
        """Append a line: ``sha256`` and ``bytes``, or ``dead``."""
        entry = {"path": path, "url": url, **what}
        entry["when"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._lines[path] = entry
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
