"""Patients, their lesions and their visits: the endless list that every data set is cut from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from dermino.data.generate.case import Case, Photograph, stream
from dermino.data.generate.diagnoses import DIAGNOSES, Diagnosis
from dermino.data.generate.optics import ITA_RANGES

SITES = ("back", "chest", "abdomen", "upper arm", "forearm", "thigh", "lower leg", "neck", "face")
_PREFERRED_AGE = 3.0
_HAIR_COLOURS = ((38, 26, 22), (62, 42, 32), (98, 70, 48), (150, 118, 82), (176, 172, 168))
_ACNE_COUNTS = ((1, 5), (6, 20), (21, 50), (51, 64))
_MOST_PAPULES = 70
# Widest lesion in mm that is looked at through a dermatoscope.
_DERMATOSCOPE = 18.0
# Largest share of the view that a lesion of any outline can fill without being cut off.
_LARGEST = 0.76


def population(seed: int, size: int = 224) -> Iterator[Case]:
    """Yield cases without end, patient by patient, lesion by lesion, visit by visit.

    Whatever could give a diagnosis away without being part of it (skin type, sex, site, modality,
    magnification, light, hair, ruler) is drawn without looking at the diagnosis.

    Parameters
    ----------
    seed:
        Names the population.
    size:
        Width of the pictures in pixels; the same skin at another resolution.
    """
    patient = 0
    while True:
        generator = stream(seed, patient)
        skin_type = int(generator.integers(1, 7))
        person = {
            "sex": str(generator.choice(["female", "male"])),
            "age": int(generator.integers(12, 90)),
            "skin_type": skin_type,
            "ita": float(generator.uniform(*ITA_RANGES[skin_type])),
            "sun_damage": float(max(0.0, generator.uniform(-0.6, 1.0))),
        }
        hair_colour = _HAIR_COLOURS[int(generator.integers(len(_HAIR_COLOURS)))]
        for lesion in range(1 + int(generator.choice(3, p=[0.6, 0.25, 0.15]))):
            yield from _visits(seed, size, patient, lesion, person, hair_colour)
        patient += 1


def _visits(
    seed: int,
    size: int,
    patient: int,
    lesion: int,
    person: dict,
    hair_colour: tuple[int, int, int],
) -> Iterator[Case]:
    generator = stream(seed, patient, lesion)
    diagnosis = _draw_diagnosis(person["age"], generator)
    morphology = diagnosis.draw(generator)
    dermoscopic = generator.random() < 0.5
    smallest, largest = diagnosis.diameter
    if dermoscopic:
        smallest, largest = min(smallest, 0.5 * _DERMATOSCOPE), min(largest, _DERMATOSCOPE)
    diameter = math.exp(generator.uniform(math.log(smallest), math.log(largest)))
    growth = generator.uniform(*diagnosis.growth)
    visits = 1 + int(generator.choice(4, p=[0.55, 0.22, 0.14, 0.09]))
    gaps = generator.uniform(0.2, 0.8, visits)
    years = np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    diameters = diameter * (1 + growth) ** years
    # The camera keeps its distance from visit to visit. The lesion's share of the view is set for
    # the middle of the follow-up: set for either end, it would tell fast growth from slow.
    share = generator.uniform(0.36, 0.66)
    field_of_view = max(math.sqrt(diameters[0] * diameters[-1]) / share, diameters[-1] / _LARGEST)
    start = date(2015, 1, 1) + timedelta(days=int(generator.integers(0, 3000)))
    case = Case(
        seed=seed,
        size=size,
        patient=patient,
        lesion=lesion,
        visit=0,
        diagnosis=diagnosis.name,
        malignant=diagnosis.malignant,
        site=str(generator.choice(SITES)),
        day=start,
        modality="dermoscopic" if dermoscopic else "clinical",
        diameter=float(diameter),
        field_of_view=float(field_of_view),
        texture=float(generator.uniform(0.2, 1.0)),
        label_rank=float(generator.random()),
        morphology=morphology,
        **person,
    )
    hairiness = generator.gamma(0.7, 9.0) * (generator.random() < 0.6)
    papules = 0
    if diagnosis.name == "acne":
        low, high = _ACNE_COUNTS[int(generator.integers(4))]
        papules = int(generator.integers(low, high + 1))
    for visit, (year, width) in enumerate(zip(years, diameters, strict=True)):
        seen = min(_MOST_PAPULES, round(papules * (width / diameter) ** 2))
        moment = replace(
            case,
            visit=visit,
            day=start + timedelta(days=round(365 * year)),
            age=min(person["age"] + int(year), 90),
            diameter=float(width),
            papules=seen,
        )
        shot = _draw_photograph(moment, hairiness, hair_colour)
        yield replace(moment, photograph=shot)


def _draw_diagnosis(age: int, generator: np.random.Generator) -> Diagnosis:
    weights = np.array(
        [_PREFERRED_AGE if low <= age <= high else 1.0 for low, high in (d.ages for d in DIAGNOSES)]
    )
    return DIAGNOSES[int(generator.choice(len(DIAGNOSES), p=weights / weights.sum()))]


def _draw_photograph(case: Case, hairiness: float, hair_colour: tuple[int, int, int]) -> Photograph:
    generator = case.visit_stream()
    dermoscopic = case.modality == "dermoscopic"
    room = max(0.0, 0.5 - 0.64 * case.diameter / case.field_of_view)
    shift = generator.uniform(-room, room, 2) * 0.8
    warmth, pinkness = generator.normal([0.0, 0.012], [0.055, 0.03])
    uneven = 0.12 if dermoscopic else 0.40
    vignette, bubbles, ruler, pen, curved = generator.random(5)
    return Photograph(
        rotation=float(generator.uniform(0, 2 * np.pi)),
        shift=(float(shift[0]), float(shift[1])),
        exposure=float(generator.normal(0.13 if dermoscopic else 0.06, 0.09)),
        tint=(float(warmth + 0.3 * pinkness), float(-pinkness), float(pinkness - warmth)),
        gradient=tuple(generator.normal(0, uneven, 2).tolist()),
        blur=float(max(0.0, generator.normal(1.2, 1.6))),
        noise=float(generator.uniform(0.8, 3.0)),
        hairs=int(generator.poisson(hairiness)),
        hair_colour=hair_colour,
        curvature=0.0 if dermoscopic or curved < 0.4 else float(0.4 + 0.45 * curved),
        vignette=float(generator.uniform(0.15, 1.0)) if dermoscopic and vignette < 0.5 else 0.0,
        bubbles=int(1 + generator.poisson(5)) if dermoscopic and bubbles < 0.2 else 0,
        ruler=bool(ruler < 0.15),
        pen=bool(pen < 0.08) and not dermoscopic,
    )
