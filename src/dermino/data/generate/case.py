"""A case: everything a procedural picture and its description are made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np


@dataclass(frozen=True)
class Morphology:
    """How a skin condition looks. Zero means absent; strengths run from 0 to about 1.

    Shape: ``asymmetry`` and ``elongation`` of the outline, ``irregularity`` of its border,
    ``softness`` of the fall-off, ``elevation`` above the skin, ``patches`` (number of further
    lesions beside the first), ``ring`` (healing from the centre).

    Colour: ``melanin`` in the epidermis, ``variegation`` of it, ``veil`` and ``nests`` of deep
    pigment (which look blue), ``blood``, ``regression`` and ``depigmentation`` (loss of pigment).

    Structure: ``network``, ``globules``, ``streaks``, ``dotted_vessels``, ``branching_vessels``,
    ``lacunae``, ``scar``, ``milia``, ``openings`` (plugged follicles), ``fissures``, ``scale``,
    ``crust``, ``ulcer``, ``edema``, and the share of the papules that are ``pustules``.
    """

    asymmetry: float = 0.0
    elongation: float = 0.0
    irregularity: float = 0.0
    softness: float = 0.1
    elevation: float = 0.0
    patches: float = 0.0
    ring: float = 0.0
    melanin: float = 0.0
    variegation: float = 0.0
    veil: float = 0.0
    nests: float = 0.0
    blood: float = 0.0
    regression: float = 0.0
    depigmentation: float = 0.0
    network: float = 0.0
    globules: float = 0.0
    streaks: float = 0.0
    dotted_vessels: float = 0.0
    branching_vessels: float = 0.0
    lacunae: float = 0.0
    scar: float = 0.0
    milia: float = 0.0
    openings: float = 0.0
    fissures: float = 0.0
    scale: float = 0.0
    crust: float = 0.0
    ulcer: float = 0.0
    edema: float = 0.0
    pustules: float = 0.0


@dataclass(frozen=True)
class Photograph:
    """How the picture was taken; none of it depends on the diagnosis.

    Parameters
    ----------
    rotation:
        Angle of the camera, radians.
    shift:
        Where the lesion lies relative to the middle of the picture, in picture widths.
    exposure, tint:
        Logarithm of the gain, of all channels and of each one.
    gradient:
        Fall-off of the light across the picture, in log units, as (x, y).
    blur:
        Standard deviation of the defocus, in thousandths of the picture's width.
    noise:
        Standard deviation of the sensor noise, in grey levels.
    hairs:
        Number of hairs in view; ``hair_colour`` is their sRGB colour.
    curvature:
        How much the body part turns away from the camera at the sides.
    vignette, bubbles, ruler, pen:
        Dark corners or the rim of a dermatoscope; gel bubbles; a scale; a surgeon's mark.
    """

    rotation: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    exposure: float = 0.0
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gradient: tuple[float, float] = (0.0, 0.0)
    blur: float = 0.0
    noise: float = 0.0
    hairs: int = 0
    hair_colour: tuple[int, int, int] = (40, 28, 24)
    curvature: float = 0.0
    vignette: float = 0.0
    bubbles: int = 0
    ruler: bool = False
    pen: bool = False


@dataclass(frozen=True)
class Case:
    """One picture of one lesion of one patient at one visit.

    ``seed``, ``patient``, ``lesion`` and ``visit`` name every random stream that renders it, so
    a case is drawn the same wherever and whenever that happens. ``field_of_view`` is the
    width of the picture and ``diameter`` that of the lesion, both in mm; ``papules`` is their
    number where there is acne; ``ita`` is the individual typology
    angle of the skin in degrees; ``texture`` and ``sun_damage`` are the skin's own.
    """

    seed: int
    patient: int
    lesion: int
    visit: int
    diagnosis: str
    malignant: bool
    sex: str
    age: int
    skin_type: int
    ita: float
    site: str
    day: date
    modality: str
    diameter: float
    field_of_view: float
    size: int = 224
    texture: float = 0.5
    sun_damage: float = 0.0
    label_rank: float = 0.0
    papules: int = 0
    morphology: Morphology = Morphology()
    photograph: Photograph = Photograph()

    @property
    def patient_id(self) -> str:
        """The patient's name in the manifest."""
        return f"P{self.patient:06d}"

    @property
    def lesion_id(self) -> str:
        """The lesion's name in the manifest, unique across patients."""
        return f"{self.patient_id}-L{self.lesion}"

    @property
    def pustules(self) -> int:
        """How many of the papules carry pus."""
        return int(self.papules * self.morphology.pustules)

    @property
    def acne_grade(self) -> int | None:
        """Hayashi grade from the count: 0 mild (to 5), 1 moderate (to 20), 2 severe (to 50), 3.

        Source: Hayashi et al., Establishment of grading criteria for acne severity,
        J Dermatol 2008; the bands that ACNE04 uses.
        """
        count = self.papules
        if not count:
            return None
        return int(np.searchsorted(HAYASHI_LIMITS, count))

    def lesion_stream(self, *purpose: int) -> np.random.Generator:
        """Random numbers that every visit of this lesion shares."""
        return stream(self.seed, self.patient, self.lesion, 0, *purpose)

    def visit_stream(self, *purpose: int) -> np.random.Generator:
        """Random numbers of this picture alone."""
        return stream(self.seed, self.patient, self.lesion, 1 + self.visit, *purpose)


HAYASHI_LIMITS = (5, 20, 50)


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random generator named by ``key``, independent of all others."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
