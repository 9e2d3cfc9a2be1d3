"""``unreadable.csv``: images that could not be read; others took their place."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.files import append_text, write_text
from dermino.pretrain.dataset import REPLACEMENTS

FILE_NAME = "unreadable.csv"
ALLOWED_SHARE = 0.01
# So few say nothing yet about a large archive.
_TOO_FEW = 10
_HEADER = ("step", "row", "path")


class UnreadableImages:
    """Writes down images that cannot be read, and says when a run meets too many.

    A run that was stopped for them and is taken up again counts anew.

    Parameters
    ----------
    run:
        The run folder.
    manifest:
        The images.
    batch_size:
        Images of a step over all processes.
    done:
        Steps already done; what was noted of later ones is dropped.
    writes:
        Only one process of a run writes; all of them count.

    Raises
    ------
    UserError
        If the file is there and a line of it is not as it was written.
    """

    def __init__(
        self, run: Path, manifest: Manifest, batch_size: int, done: int, writes: bool
    ) -> None:
        self.path, self.manifest, self.writes = run / FILE_NAME, manifest, writes
        self.batch_size = batch_size
        lines = [line for line in _read(self.path) if int(line[0]) <= done]
        self.rows = {int(row) for _, row, _ in lines}
        if self.refusal(done) is not None:
            self.rows.clear()
        if writes and self.path.is_file():
            write_text(self.path, _to_csv([_HEADER, *lines]))

    def note(self, step: int, rows: Sequence[int]) -> None:
        """Note the manifest rows that step number ``step`` (from 1) could not show."""
        self.rows.update(rows)
        if self.writes and rows:
            lines = [(str(step), str(row), str(self.manifest.path(row))) for row in rows]
            append_text(self.path, _to_csv(lines if self.path.is_file() else [_HEADER, *lines]))

    def refusal(self, done: int) -> UserError | None:
        """Return why to stop if more than 1 % of the images shown so far cannot be read.

        The first ten of a large archive, the first two of a small one, never stop a run.

        Parameters
        ----------
        done:
            Steps done.

        Returns
        -------
        An error that names the list; None to go on.
        """
        images = len(self.manifest)
        at_least = min(_TOO_FEW, max(ALLOWED_SHARE * images, 2))
        different = min(done * self.batch_size, images)
        if len(self.rows) <= max(ALLOWED_SHARE * different, at_least):
            return None
        return UserError(
            f"{len(self.rows)} of the {different} images shown so far cannot be read; they "
            f"are listed in '{self.path}'.",
            "Have files been moved or cut short? Put them back and go on with --resume, or run "
            "dermino data check and start again on what it leaves.",
        )


def no_replacement(reason: str) -> UserError:
    """Return why to stop where no image can take the place of one that cannot be read."""
    return UserError(
        f"{REPLACEMENTS} images in a row cannot be read. {reason}".rstrip(),
        "Run dermino data check and train on what it leaves.",
    )


def count_unreadable(run: Path) -> int:
    """Return how many different images a run could not read."""
    return len({row for _, row, _ in _read(run / FILE_NAME)})


def _read(path: Path) -> list[tuple[str, str, str]]:
    """Return the lines, whether a header is above them or not; a torn last one is left out."""
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    lines = list(csv.reader(StringIO(text[: text.rfind("\n") + 1], newline="")))
    found = []
    for number, line in enumerate(lines, 1):
        if not line or (number == 1 and tuple(line) == _HEADER):
            continue
        if len(line) != len(_HEADER) or not (line[0].isdecimal() and line[1].isdecimal()):
            raise UserError(
                f"Line {number} of '{path}' is not step, row and path of an image.",
                "Remove that line, or the file: nothing else of the run is lost with it.",
            )
        found.append((line[0], line[1], line[2]))
    return found


def _to_csv(lines: Iterable[tuple[str, str, str]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()
