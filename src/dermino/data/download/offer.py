"""What can be downloaded: read from ``offers.yaml``, or from a file of the same form."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal
from urllib.parse import urljoin, urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dermino.data.source import SOURCES
from dermino.errors import UserError, unknown

ListKind = Literal["scin", "fitzpatrick17k", "lesion130k", "isic-archive"]


class OfferedFile(BaseModel):
    """One file: its path below the folder, and what is known to check it by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    url: str | None = None
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


class Offer(BaseModel):
    """What a publisher offers under one name; the fields are explained in ``offers.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    base: str
    licence: str = ""
    files: tuple[OfferedFile, ...] = ()
    listing: ListKind | None = None
    table: str = ""
    pictures: int | None = None
    hosts: str = ""
    per_host: int = Field(2, ge=1)
    delay: float = Field(0.0, ge=0)

    @field_validator("files", mode="before")
    @classmethod
    def _name_files(cls, values: object) -> object:
        if not isinstance(values, list):
            return values
        return tuple({"path": value} if isinstance(value, str) else value for value in values)

    def url(self, file: OfferedFile) -> str:
        """Return the address of a file."""
        return file.url or urljoin(self.base, file.path)

    def describe(self) -> list[str]:
        """Say what would be fetched, how much, from where and under which licence."""
        size = sum(file.bytes or 0 for file in self.files)
        known = all(file.bytes for file in self.files) and not self.listing
        count = f"{len(self.files)} files" if self.files else ""
        pictures = f"{self.pictures:,} pictures" if self.pictures else "pictures"
        amount = " and ".join(part for part in (count, pictures if self.listing else "") if part)
        hosts = {urlsplit(self.url(file)).netloc for file in self.files}
        hosts.add(urlsplit(self.base).netloc)
        info = SOURCES.get(self.name).info if self.name in SOURCES else None
        return [
            f"{self.name}: {self.about}",
            f"How much: {amount}; "
            + (f"{size / 1e9:.1f} GB" if known else "the publisher tells no total size"),
            f"From: {', '.join([*sorted(hosts), *([self.hosts] if self.hosts else [])])}",
            f"Licence: {(info.licence if info else '') or self.licence or 'not known'}",
            *([f"Cite: {info.citation}", f"See {info.url}"] if info else []),
        ]


def read_offers(path: str | Path | None = None) -> dict[str, Offer]:
    """Read all offers, by name.

    Parameters
    ----------
    path:
        A YAML file of the form of dermino's own, for mirrors and further datasets.

    Raises
    ------
    UserError
        If the file cannot be read; the message names the entry.
    """
    place = Path(path) if path else files("dermino.data.download").joinpath("offers.yaml")
    try:
        content = yaml.safe_load(place.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"Cannot read the addresses in '{place}': {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"'{place}' is no list of offers by name.", "See docs/data.md.")
    offers = {}
    for name, entry in content.items():
        try:
            offers[name] = Offer(name=name, **entry)
        except (ValidationError, TypeError) as error:
            raise UserError(f"The entry '{name}' of '{place}' is wrong: {error}.") from error
    return offers


def find_offer(name: str, path: str | Path | None = None) -> Offer:
    """Return the offer called ``name``; a UserError names the nearest one otherwise."""
    offers = read_offers(path)
    if name not in offers:
        raise unknown("dataset offered for download", name, offers)
    return offers[name]
