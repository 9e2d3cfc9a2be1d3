"""The catalogue: what every source is for, what comes with it, and how its images are had."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from dermino.config import Config
from dermino.data.download import read_offers
from dermino.data.source import SOURCES, describe_options
from dermino.data.template import templates


class Entry(Config):
    """What the catalogue knows of a source beside what the source says itself.

    ``access`` says how the images are had, ``pretraining`` which part DermINO was pretrained on,
    ``carries`` what comes with the images besides labels.
    """

    access: str = ""
    pretraining: str = ""
    carries: tuple[str, ...] = ()


@cache
def catalogue() -> dict[str, Entry]:
    """Return the entries of ``catalogue.yaml`` by the names of the sources."""
    text = files("dermino.data").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return {name: Entry.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


def describe_sources() -> list[dict[str, Any]]:
    """Return all that is known of every source, sorted by name, as plain values."""
    offers = read_offers()
    rows = []
    for name, source in SOURCES:
        entry = catalogue().get(name, Entry())
        rows.append(
            {
                "name": name,
                "title": source.info.title,
                "images": source.expected_images,
                "classes": list(source.info.vocabulary),
                "layout": source.layout,
                "access": entry.access,
                "url": source.info.url,
                "download": name in offers,
                "template": name in templates(),
                "licence": source.info.licence,
                "citation": source.info.citation,
                "used_for": list(source.used_for),
                "pretraining": entry.pretraining,
                "task": templates()[name].task if name in templates() else "",
                "carries": list(entry.carries),
            }
        )
    return rows


def describe_source(name: str) -> dict[str, Any]:
    """Return all that is known of one source, its options included.

    Raises
    ------
    UserError
        For an unknown name.
    """
    options = describe_options(name)
    found = next(row for row in describe_sources() if row["name"] == name)
    return {**found, "options": options}
