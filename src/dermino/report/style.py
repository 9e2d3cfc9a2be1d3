"""One look for every figure: an encoder keeps its colour, marker and dashes on the whole page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#1c2430"
MUTED = "#5b6675"
RULE = "#d9dee5"

# Okabe and Ito, "Color universal design" (2008), without the yellow, which fades on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "*")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 1.5), (1.5, 1), (5, 1.2, 1.2, 1.2))
_PIXELS_PER_INCH = 72

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # Numbers in the figures stay text that can be selected.
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.labelsize": 10.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#eceff3",
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Mark:
    """How one encoder is drawn; ``dashes`` are lengths of strokes and gaps in points."""

    colour: str
    marker: str
    dashes: tuple[float, ...]

    @property
    def linestyle(self) -> str | tuple[float, tuple[float, ...]]:
        """The dashes as matplotlib takes them."""
        return (0, self.dashes) if self.dashes else "solid"

    @property
    def line(self) -> dict[str, Any]:
        """Colour and dashes of a line, as ``Axes.plot`` takes them."""
        return {"color": self.colour, "linestyle": self.linestyle}


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """Give each name a look of its own; colours come round again only with other dashes."""
    looks = {}
    for index, name in enumerate(dict.fromkeys(names)):
        round_, colour = divmod(index, len(_COLOURS))
        looks[name] = Mark(
            _COLOURS[colour],
            _MARKERS[index % len(_MARKERS)],
            _DASHES[(colour + round_) % len(_DASHES)],
        )
    return looks


def draw(
    width: float,
    height: float,
    alt: str,
    paint: Callable[[Axes], None],
    name: str,
    position: tuple[float, float, float, float] | None = None,
) -> Markup:
    """Draw one panel as SVG to put into a page.

    Parameters
    ----------
    width, height:
        Size in CSS pixels; the page may scale it.
    alt:
        What the panel says, in words, for those who cannot see it.
    paint:
        Draws on the axes.
    name:
        Unique on the page; keeps the identifiers inside the SVG apart, and reproducible.
    position:
        Left, bottom, width and height of the axes as shares of the panel, for panels that must
        line up. Default: what the labels leave.
    """
    with matplotlib.rc_context({**_RC, "svg.hashsalt": name}):
        figure = Figure(
            figsize=(width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH),
            layout=None if position else "constrained",
            facecolor="none",
        )
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        if position:
            axes.set_position(position)
        paint(axes)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _inline(buffer.getvalue(), alt)


def _inline(document: str, alt: str) -> Markup:
    """Cut an SVG file down to what an HTML page needs."""
    body = document[document.index("<svg") :]
    opening, rest = body.split(">", 1)
    view_box = re.search(r'viewBox="([^"]+)"', opening)
    assert view_box
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    rest = re.sub(r"<!--.*?-->", "", rest, flags=re.DOTALL)
    rest = re.sub(
        r'<g id="[^"]*"', "<g", rest
    )  # The same names in every figure; nothing uses them.
    rest = re.sub(r' d="[^"]*"', lambda path: _shorten(path[0]), rest)
    rest = re.sub(r"\n\s*", "\n", rest)
    return Markup(f'<svg viewBox="{view_box[1]}" role="img" aria-label="{escape(alt)}">{rest}')


def _shorten(path: str) -> str:
    """Keep a hundredth of a pixel of a path's coordinates."""
    return re.sub(r"(\.\d\d)\d+", r"\1", path)
