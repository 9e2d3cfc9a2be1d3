"""A figure or table of the page, with the numbers that it is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import pandas as pd
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap, to_hex

from dermino.report.numbers import csv_text, data_uri, latex_text

_SHADES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9cb8d3", "#123c63"])
_DARK = 0.2  # Relative luminance below which white letters stand out more than dark ones.


@dataclass(frozen=True)
class Panel:
    """One drawing, with the number of each encoder below it where there is one."""

    title: str
    figure: Markup
    detail: str = ""
    values: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class GridCell:
    """A cell of a shaded table: what it says, small print, and how it is painted."""

    text: str
    detail: str = ""
    shade: str = "#ffffff"
    dark: bool = False


@dataclass(frozen=True)
class Grid:
    """A shaded table; ``rows`` are named after encoders."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[GridCell]]]
    title: str = ""


@dataclass(frozen=True)
class Exhibit:
    """What the page shows under one heading.

    Parameters
    ----------
    name:
        Unique on the page; names the files of the numbers.
    title, text:
        The heading, and how to read it.
    numbers:
        What is shown, one row a number, for CSV and LaTeX; empty where there is nothing to tell.
    panels, grids:
        Drawings and shaded tables.
    legend:
        The encoders whose looks the drawings need explained.
    size:
        How wide the panels are.
    across:
        The column of ``numbers`` whose values become columns of the LaTeX table.
    """

    name: str
    title: str
    text: str
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    panels: Sequence[Panel] = ()
    grids: Sequence[Grid] = ()
    legend: Sequence[str] = ()
    size: Literal["intervals", "small", "medium", "large"] = "intervals"
    across: str = ""

    @cached_property
    def csv(self) -> str:
        """The numbers as CSV."""
        return csv_text(self.numbers)

    @cached_property
    def latex(self) -> str:
        """The numbers as a LaTeX table of the booktabs package."""
        return latex_text(self.numbers, self.title, self.name, self.across)

    @property
    def downloads(self) -> list[tuple[str, str, str]]:
        """Name of the format, file name and data URI of the numbers; nothing without numbers."""
        if self.numbers.empty:
            return []
        return [
            ("CSV", f"{self.name}.csv", data_uri(self.csv, "text/csv")),
            ("LaTeX", f"{self.name}.tex", data_uri(self.latex, "application/x-tex")),
        ]


def shade(share: float) -> tuple[str, bool]:
    """Return the colour of a share from 0 (white) to 1, and whether it needs white letters."""
    red, green, blue, _ = _SHADES(share)
    brightness = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return to_hex((red, green, blue)), brightness < _DARK
