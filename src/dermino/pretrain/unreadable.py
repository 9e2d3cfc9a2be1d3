"""``unreadable.csv``: images that could not be read; others took their place."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.files import write_text

FILE_NAME = "unreadable.csv"
ALLOWED_SHARE = 0.01
# So few say nothing yet about a large archive.
_TOO_FEW = 10


class UnreadableImages:
    """Writes down images that cannot be read, and stops a run that meets too many.

    Parameters
    ----------
    run:
        The run folder.
    manifest:
        The images.
    done:
        Steps already done; what was noted of later ones is dropped.
    writes:
        Only one process of a run writes; all of them count.
    """

    def __init__(self, run: Path, manifest: Manifest, done: int, writes: bool) -> None:
        self.path, self.manifest, self.writes = run / FILE_NAME, manifest, writes
        lines = _read(self.path, done)
        self.rows = {int(row) for _, row, _ in lines}
        if writes and self.path.is_file():
            write_text(self.path, _to_csv(lines))

    def note(self, step: int, rows: Iterable[int]) -> None:
        """Note the manifest rows that step number ``step`` (from 1) could not show."""
        rows = list(rows)
        self.rows.update(rows)
        if self.writes and rows:
            lines = [(str(step), str(row), str(self.manifest.path(row))) for row in rows]
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                file.write(_to_csv(lines))

    def refuse_many(self, shown: int) -> None:
        """Stop if more than 1 % of the images shown so far cannot be read.

        The first ten of a large archive, the first two of a small one, never stop a run.

        Parameters
        ----------
        shown:
            Images shown so far, repeated ones counted again.

        Raises
        ------
        UserError
            Naming the list.
        """
        images = len(self.manifest)
        at_least = min(_TOO_FEW, max(ALLOWED_SHARE * images, 2))
        different = min(shown, images)
        if len(self.rows) > max(ALLOWED_SHARE * different, at_least):
            raise UserError(
                f"{len(self.rows)} of the {different} images shown so far cannot be read; they "
                f"are listed in '{self.path}'.",
                "Have files been moved or cut short? Run dermino data check and train on what it "
                "leaves, or put the files back and go on with --resume.",
            )


def _read(path: Path, done: int) -> list[tuple[str, str, str]]:
    """Return the lines of steps that are done; a torn last line is left out."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        lines = [line for line in csv.reader(file) if len(line) == 3]
    return [(step, row, image) for step, row, image in lines if int(step) <= done]


def _to_csv(lines: Iterable[tuple[str, str, str]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()
