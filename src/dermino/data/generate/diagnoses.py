"""The diagnoses, each a distribution over what can be seen.

No single structure decides: most structures occur in several diagnoses, at different rates, as in
practice (the rates are chosen for a demonstration and are not epidemiology).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dermino.data.generate.case import Morphology


class Chance(NamedTuple):
    """A structure that is there with a probability, and then of uniform strength."""

    probability: float
    low: float
    high: float


@dataclass(frozen=True)
class Diagnosis:
    """What is seen, in whom, how large (mm, at the first visit) and how fast it grows (per year).

    ``ages`` are the years of life in which it is three times as frequent as in others.
    """

    name: str
    looks: dict[str, Chance]
    diameter: tuple[float, float]
    growth: tuple[float, float]
    ages: tuple[int, int]
    malignant: bool = False

    def draw(self, generator: np.random.Generator) -> Morphology:
        """Draw one lesion's appearance."""
        strengths = {}
        for structure, chance in self.looks.items():
            present, strength = generator.random(2)
            if present < chance.probability:
                strengths[structure] = float(chance.low + strength * (chance.high - chance.low))
        return Morphology(**strengths)


def _always(low: float, high: float) -> Chance:
    return Chance(1.0, low, high)


DIAGNOSES = (
    Diagnosis(
        "melanocytic nevus",
        {
            "asymmetry": _always(0.0, 0.45),
            "elongation": _always(0.0, 0.3),
            "irregularity": _always(0.04, 0.22),
            "softness": _always(0.05, 0.24),
            "melanin": _always(0.45, 1.25),
            "variegation": _always(0.05, 0.45),
            "blood": _always(0.0, 0.15),
            "network": Chance(0.6, 0.3, 0.9),
            "globules": Chance(0.4, 0.3, 0.9),
            "elevation": Chance(0.3, 0.2, 0.6),
            "veil": Chance(0.05, 0.2, 0.6),
            "streaks": Chance(0.06, 0.2, 0.6),
            "regression": Chance(0.05, 0.2, 0.4),
        },
        diameter=(3.0, 8.0),
        growth=(0.03, 0.12),
        ages=(12, 50),
    ),
    Diagnosis(
        "melanoma",
        {
            "asymmetry": _always(0.35, 1.0),
            "elongation": _always(0.0, 0.45),
            "irregularity": _always(0.14, 0.5),
            "softness": _always(0.03, 0.16),
            "melanin": _always(0.6, 1.5),
            "variegation": _always(0.3, 1.0),
            "blood": _always(0.0, 0.25),
            "network": Chance(0.5, 0.4, 1.0),
            "globules": Chance(0.35, 0.3, 1.0),
            "streaks": Chance(0.35, 0.4, 1.0),
            "veil": Chance(0.5, 0.3, 1.0),
            "regression": Chance(0.4, 0.3, 0.9),
            "elevation": Chance(0.35, 0.2, 0.8),
            "ulcer": Chance(0.1, 0.2, 0.6),
            "dotted_vessels": Chance(0.2, 0.2, 0.6),
        },
        diameter=(5.0, 14.0),
        growth=(0.12, 0.4),
        ages=(35, 90),
        malignant=True,
    ),
    Diagnosis(
        "seborrheic keratosis",
        {
            "asymmetry": _always(0.05, 0.5),
            "elongation": _always(0.0, 0.45),
            "irregularity": _always(0.06, 0.25),
            "softness": _always(0.015, 0.06),
            "melanin": _always(0.3, 1.2),
            "variegation": _always(0.1, 0.5),
            "elevation": Chance(0.7, 0.2, 0.8),
            "milia": Chance(0.65, 0.2, 1.0),
            "openings": Chance(0.55, 0.2, 1.0),
            "fissures": Chance(0.5, 0.3, 1.0),
            "scale": Chance(0.2, 0.1, 0.4),
            "crust": Chance(0.06, 0.2, 0.5),
            "network": Chance(0.08, 0.2, 0.5),
            "blood": _always(0.0, 0.15),
        },
        diameter=(5.0, 18.0),
        growth=(0.03, 0.15),
        ages=(45, 90),
    ),
    Diagnosis(
        "basal cell carcinoma",
        {
            "asymmetry": _always(0.1, 0.6),
            "elongation": _always(0.0, 0.35),
            "irregularity": _always(0.08, 0.35),
            "softness": _always(0.05, 0.2),
            "melanin": Chance(0.4, 0.05, 0.35),
            "variegation": _always(0.1, 0.6),
            "blood": _always(0.04, 0.35),
            "branching_vessels": Chance(0.75, 0.3, 1.0),
            "nests": Chance(0.5, 0.3, 1.0),
            "ulcer": Chance(0.35, 0.2, 0.8),
            "elevation": Chance(0.7, 0.2, 0.7),
            "crust": Chance(0.15, 0.2, 0.5),
            "regression": Chance(0.2, 0.2, 0.5),
            "milia": Chance(0.1, 0.1, 0.4),
        },
        diameter=(4.0, 14.0),
        growth=(0.08, 0.3),
        ages=(45, 90),
        malignant=True,
    ),
    Diagnosis(
        "squamous cell carcinoma",
        {
            "asymmetry": _always(0.1, 0.7),
            "elongation": _always(0.0, 0.35),
            "irregularity": _always(0.12, 0.45),
            "softness": _always(0.04, 0.2),
            "blood": _always(0.2, 0.7),
            "melanin": Chance(0.2, 0.1, 0.4),
            "scale": Chance(0.65, 0.2, 0.8),
            "crust": Chance(0.55, 0.3, 1.0),
            "ulcer": Chance(0.4, 0.3, 1.0),
            "elevation": Chance(0.75, 0.3, 1.0),
            "dotted_vessels": Chance(0.4, 0.3, 0.9),
            "branching_vessels": Chance(0.1, 0.2, 0.6),
        },
        diameter=(6.0, 20.0),
        growth=(0.12, 0.45),
        ages=(50, 90),
        malignant=True,
    ),
    Diagnosis(
        "actinic keratosis",
        {
            "asymmetry": _always(0.1, 0.8),
            "elongation": _always(0.0, 0.4),
            "irregularity": _always(0.15, 0.45),
            "softness": _always(0.12, 0.35),
            "blood": _always(0.15, 0.5),
            "melanin": Chance(0.3, 0.1, 0.35),
            "variegation": _always(0.1, 0.6),
            "scale": Chance(0.85, 0.15, 0.7),
            "crust": Chance(0.2, 0.2, 0.5),
            "milia": Chance(0.3, 0.1, 0.5),
            "dotted_vessels": Chance(0.15, 0.2, 0.5),
            "elevation": Chance(0.2, 0.1, 0.3),
        },
        diameter=(4.0, 14.0),
        growth=(0.03, 0.2),
        ages=(50, 90),
    ),
    Diagnosis(
        "dermatofibroma",
        {
            "asymmetry": _always(0.0, 0.35),
            "elongation": _always(0.0, 0.25),
            "irregularity": _always(0.05, 0.2),
            "softness": _always(0.2, 0.45),
            "melanin": _always(0.2, 0.7),
            "variegation": _always(0.05, 0.4),
            "blood": _always(0.05, 0.4),
            "network": Chance(0.6, 0.2, 0.6),
            "scar": Chance(0.75, 0.4, 1.0),
            "elevation": Chance(0.5, 0.2, 0.6),
            "dotted_vessels": Chance(0.15, 0.2, 0.5),
            "scale": Chance(0.1, 0.1, 0.3),
        },
        diameter=(4.0, 10.0),
        growth=(0.03, 0.1),
        ages=(20, 60),
    ),
    Diagnosis(
        "hemangioma",
        {
            "asymmetry": _always(0.0, 0.45),
            "elongation": _always(0.0, 0.3),
            "irregularity": _always(0.05, 0.25),
            "softness": _always(0.03, 0.12),
            "blood": _always(0.3, 0.9),
            "lacunae": Chance(0.85, 0.2, 1.0),
            "elevation": Chance(0.7, 0.3, 0.9),
            "crust": Chance(0.06, 0.2, 0.5),
            "veil": Chance(0.12, 0.2, 0.5),
        },
        diameter=(2.5, 8.0),
        growth=(0.03, 0.15),
        ages=(20, 80),
    ),
    Diagnosis(
        "psoriasis",
        {
            "patches": Chance(0.7, 1.0, 7.0),
            "asymmetry": _always(0.1, 0.5),
            "elongation": _always(0.0, 0.4),
            "irregularity": _always(0.08, 0.3),
            "softness": _always(0.02, 0.09),
            "blood": _always(0.25, 0.75),
            "scale": Chance(0.9, 0.3, 0.95),
            "elevation": _always(0.1, 0.3),
            "dotted_vessels": Chance(0.5, 0.2, 0.7),
            "melanin": Chance(0.15, 0.05, 0.2),
        },
        diameter=(15.0, 60.0),
        growth=(0.05, 0.35),
        ages=(18, 70),
    ),
    Diagnosis(
        "eczema",
        {
            "patches": Chance(0.75, 1.0, 7.0),
            "asymmetry": _always(0.2, 0.8),
            "elongation": _always(0.1, 0.5),
            "irregularity": _always(0.2, 0.5),
            "softness": _always(0.14, 0.4),
            "blood": _always(0.2, 0.65),
            "scale": Chance(0.5, 0.1, 0.45),
            "crust": Chance(0.35, 0.2, 0.7),
            "fissures": Chance(0.3, 0.2, 0.5),
            "dotted_vessels": Chance(0.2, 0.2, 0.5),
            "melanin": Chance(0.25, 0.05, 0.25),
        },
        diameter=(15.0, 60.0),
        growth=(0.05, 0.35),
        ages=(12, 50),
    ),
    Diagnosis(
        "urticaria",
        {
            "patches": Chance(0.8, 2.0, 8.0),
            "asymmetry": _always(0.1, 0.7),
            "elongation": _always(0.1, 0.6),
            "irregularity": _always(0.08, 0.35),
            "softness": _always(0.06, 0.2),
            "blood": _always(0.3, 0.7),
            "edema": _always(0.5, 1.0),
        },
        diameter=(15.0, 60.0),
        growth=(0.05, 0.35),
        ages=(15, 60),
    ),
    Diagnosis(
        "tinea corporis",
        {
            "patches": Chance(0.25, 1.0, 2.0),
            "asymmetry": _always(0.05, 0.4),
            "elongation": _always(0.0, 0.25),
            "irregularity": _always(0.08, 0.28),
            "softness": _always(0.03, 0.12),
            "blood": _always(0.25, 0.7),
            "ring": _always(0.35, 1.0),
            "scale": Chance(0.8, 0.2, 0.7),
            "elevation": Chance(0.4, 0.05, 0.15),
            "melanin": Chance(0.2, 0.05, 0.2),
        },
        diameter=(12.0, 45.0),
        growth=(0.1, 0.45),
        ages=(12, 60),
    ),
    Diagnosis(
        "vitiligo",
        {
            "patches": Chance(0.7, 1.0, 6.0),
            "asymmetry": _always(0.1, 0.8),
            "elongation": _always(0.0, 0.5),
            "irregularity": _always(0.1, 0.35),
            "softness": _always(0.02, 0.1),
            "depigmentation": _always(0.6, 1.0),
            "blood": Chance(0.15, 0.05, 0.2),
        },
        diameter=(12.0, 60.0),
        growth=(0.05, 0.4),
        ages=(12, 50),
    ),
    Diagnosis(
        "acne",
        {"blood": _always(0.5, 1.0), "pustules": Chance(0.8, 0.1, 0.6)},
        diameter=(40.0, 80.0),
        growth=(0.02, 0.3),
        ages=(12, 30),
    ),
)
