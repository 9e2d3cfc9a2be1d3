"""Draw the README's contact sheet: python docs/images/draw_synthetic.py

The first 24 cases of seed 3, each with another lesion; nothing is picked by hand.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dermino.data.generate import population, render

_COLUMNS, _ROWS, _SIDE = 8, 3, 160


def main() -> None:
    """Write ``synthetic.jpg`` beside this file."""
    sheet = Image.new("RGB", (_COLUMNS * _SIDE, _ROWS * _SIDE))
    shown: set[str] = set()
    for case in population(seed=3, size=_SIDE):
        if case.lesion_id in shown:
            continue
        place = len(shown)
        shown.add(case.lesion_id)
        image, _ = render(case)
        sheet.paste(Image.fromarray(image), (place % _COLUMNS * _SIDE, place // _COLUMNS * _SIDE))
        if len(shown) == _COLUMNS * _ROWS:
            break
    sheet.save(Path(__file__).with_name("synthetic.jpg"), quality=88)


if __name__ == "__main__":
    main()
