"""Procedural skin images for demonstrations and tests, never for science."""

from dermino.data.generate.case import Case, Morphology, Photograph
from dermino.data.generate.dataset import generate
from dermino.data.generate.diagnoses import DIAGNOSES
from dermino.data.generate.population import population
from dermino.data.generate.render import render

__all__ = ["DIAGNOSES", "Case", "Morphology", "Photograph", "generate", "population", "render"]
