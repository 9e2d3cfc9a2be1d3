"""A taxonomy by name: the public one, or a folder."""

from __future__ import annotations

from pathlib import Path

from dermino.data.manifest import Manifest
from dermino.knowledge.build import build_taxonomy
from dermino.knowledge.public import PUBLIC
from dermino.knowledge.taxonomy import Taxonomy


def load_taxonomy(labels: str | Path, manifest: Manifest | None = None) -> Taxonomy:
    """Return the taxonomy that ``labels`` names.

    Parameters
    ----------
    labels:
        A folder written by ``dermino labels build``; or ``public``, the shipped taxonomy, which is
        embedded by the best text encoder on this machine.
    manifest:
        With ``public``: images whose labels may be of other datasets. They join the public
        concepts as in ``dermino labels build --public MANIFEST``.

    Raises
    ------
    UserError
        If there is no such taxonomy.
    """
    if str(labels) != PUBLIC or Path(labels).is_dir():
        return Taxonomy.read(labels)
    return build_taxonomy([] if manifest is None else [manifest], public=True)
