"""Long lists of weights in few words, with every weight in them."""

from __future__ import annotations

from collections.abc import Iterable

_Parts = tuple[str, ...]


def compressed(names: Iterable[str]) -> list[str]:
    """Write names that differ in one number, or in their last part, as one.

    ``blocks.{0..11}.norm1.{bias,weight}`` stands for 24 names. They come in the order of the first
    of each.
    """
    rows = [tuple(name.split(".")) for name in names]
    for place in range(max(map(len, rows), default=0)):
        rows = _merged(rows, place)
    endings: dict[_Parts, list[str]] = {}
    for row in rows:
        # What stands alone, or has its shape after it, is easier to read unmerged.
        path, ending = (row[:-1], row[-1]) if len(row) > 1 and " " not in row[-1] else (row, "")
        endings.setdefault(path, []).append(ending)
    return [
        ".".join((*path, _braced(found)) if found[0] else path) for path, found in endings.items()
    ]


def _merged(rows: list[_Parts], place: int) -> list[_Parts]:
    """Merge the rows that differ only in a number at one place."""
    groups: dict[_Parts, list[int]] = {}
    for row in rows:
        if place < len(row) and row[place].isdecimal():
            alike = (*row[:place], "", *row[place + 1 :])
            groups.setdefault(alike, []).append(int(row[place]))
        else:
            groups[row] = []
    return [
        (*row[:place], _braced(_runs(sorted(numbers))), *row[place + 1 :]) if numbers else row
        for row, numbers in groups.items()
    ]


def _runs(numbers: list[int]) -> list[str]:
    """Write ascending numbers as their runs: ``0``, ``2..5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]


def _braced(parts: list[str]) -> str:
    alone = len(parts) == 1 and ".." not in parts[0]
    return parts[0] if alone else f"{{{','.join(parts)}}}"
