"""The list of LESION130K: a number, a class, a box and an address for each lesion."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dermino.data.findings import Finding
from dermino.data.reference import read
from dermino.errors import UserError

_FIELDS = ("id", "lesion_class", "x_center", "y_center", "width", "height", "url")
_BOX = list(_FIELDS[2:6])


def read_lesion_list(path: Path, findings: list[Finding]) -> pd.DataFrame:
    """Read ``LESION130k.csv`` (or ``CAN2000.csv``, ``CAN5600.csv``), which is no CSV.

    Parameters
    ----------
    path:
        The file. Its lines are ``id class x_center y_center width height url``, separated by
        blanks, and comments that begin with ``##``. The address may hold blanks.
    findings:
        Lines that cannot be read are reported here, by number, and left out.

    Returns
    -------
    pandas.DataFrame
        Columns ``id, lesion_class, x_center, y_center, width, height, url``, indexed by the
        number of the line. The box is relative to the image's width and height; some heights
        are 0, which stands for the whole image.

    Raises
    ------
    UserError
        If the file cannot be read or holds no such line.
    """
    try:
        lines = read(path).decode(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"Cannot read '{path}': {error.strerror}.") from error
    rows: dict[int, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("##"):
            continue
        values = line.strip().split(maxsplit=len(_FIELDS) - 1)
        if len(values) == len(_FIELDS) and _are_numbers(values[2:6]):
            rows[number] = values
        else:
            problem = "line cannot be read"
            findings.append(Finding("warning", problem, line[:200], str(path), number))
    if not rows:
        raise UserError(
            f"'{path}' holds no line 'id class x y width height url'.",
            "Give LESION130k.csv as the publisher's repository has it.",
        )
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(_FIELDS))
    return frame.astype(dict.fromkeys(_BOX, float))


def pixel_box(
    x_center: float, y_center: float, width: float, height: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in pixels of a relative box; a flat one is the image.

    Parameters
    ----------
    x_center, y_center, width, height:
        The box, relative to the image.
    size:
        Width and height of the image in pixels.
    """
    left, right = (x_center - width / 2) * size[0], (x_center + width / 2) * size[0]
    top, bottom = (y_center - height / 2) * size[1], (y_center + height / 2) * size[1]
    box = (
        max(0, round(left)),
        max(0, round(top)),
        min(size[0], round(right)),
        min(size[1], round(bottom)),
    )
    return box if box[0] < box[2] and box[1] < box[3] else (0, 0, *size)


def _are_numbers(values: list[str]) -> bool:
    try:
        return all(float(value) == float(value) for value in values)
    except ValueError:
        return False
