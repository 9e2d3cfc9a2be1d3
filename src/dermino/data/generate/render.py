"""One case in, one picture and its mask out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dermino.data.generate.acne import paint_acne
from dermino.data.generate.camera import take_picture
from dermino.data.generate.canvas import Canvas
from dermino.data.generate.case import Case
from dermino.data.generate.outline import Outline, draw_outline
from dermino.data.generate.pigment import (
    paint_depigmentation,
    paint_globules,
    paint_nests,
    paint_network,
    paint_pigment,
    paint_regression,
    paint_streaks,
    paint_veil,
)
from dermino.data.generate.skin import paint_skin
from dermino.data.generate.surface import (
    paint_crust,
    paint_elevation,
    paint_fissures,
    paint_milia,
    paint_openings,
    paint_scale,
    paint_scar,
)
from dermino.data.generate.vessels import (
    paint_blood,
    paint_branching_vessels,
    paint_dotted_vessels,
    paint_edema,
    paint_lacunae,
    paint_ulcer,
)

Painter = Callable[[Canvas, Case, Outline, np.random.Generator], None]

# From the depth of the skin to its surface: what lies on top is painted last.
PAINTERS: dict[str, Painter] = {
    "melanin": paint_pigment,
    "network": paint_network,
    "globules": paint_globules,
    "streaks": paint_streaks,
    "blood": paint_blood,
    "nests": paint_nests,
    "dotted_vessels": paint_dotted_vessels,
    "lacunae": paint_lacunae,
    "regression": paint_regression,
    "veil": paint_veil,
    "depigmentation": paint_depigmentation,
    "elevation": paint_elevation,
    "fissures": paint_fissures,
    "edema": paint_edema,
    "scar": paint_scar,
    "branching_vessels": paint_branching_vessels,
    "milia": paint_milia,
    "openings": paint_openings,
    "scale": paint_scale,
    "ulcer": paint_ulcer,
    "crust": paint_crust,
}


def render(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Draw the picture of a case and the mask of its lesion; the same bytes every time.

    Returns
    -------
    image:
        sRGB, shape (size, size, 3), uint8.
    mask:
        255 inside the lesion, 0 outside, shape (size, size), uint8.
    """
    canvas = Canvas(case)
    paint_skin(canvas, case)
    if case.papules:
        mask = paint_acne(canvas, case, case.lesion_stream(1))
    else:
        mask = _paint_lesion(canvas, case)
    np.maximum(canvas.melanin, 0, out=canvas.melanin)
    np.clip(canvas.white, 0, 0.95, out=canvas.white)
    return take_picture(canvas, case), mask.astype(np.uint8) * np.uint8(255)


def _paint_lesion(canvas: Canvas, case: Case) -> np.ndarray:
    outline = draw_outline(canvas, case.morphology, case.lesion_stream(1))
    for number, (structure, paint) in enumerate(PAINTERS.items()):
        if getattr(case.morphology, structure):
            paint(canvas, case, outline, case.lesion_stream(2, number))
    return outline.mask
