"""Data sets of both papers that are not published: tables that their owners have filled in."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.manifest import Manifest
from dermino.data.source import SOURCES, Imported, Source
from dermino.data.source_info import SourceInfo
from dermino.data.sources.csv import Csv
from dermino.data.sources.longitudinal import in_order
from dermino.data.template import EXAMPLE_IMAGE, Template, templates
from dermino.errors import UserError, nearest


class Proprietary:
    """A template of ``dermino data template``, filled in.

    It is read like any table of the source ``csv``, with the paper's classes as vocabulary: a
    label that is none of them is reported, and its image kept unlabelled.
    """

    template: ClassVar[Template]
    info: ClassVar[SourceInfo]
    used_for: ClassVar[tuple[str, ...]]
    layout: ClassVar[str]
    tells: ClassVar[tuple[str, ...]]
    expected_images: ClassVar[int | None]

    def read(self, path: Path, **options: Any) -> Imported:
        """Read the table at ``path``, or the one in that folder that is called as the data set.

        Parameters
        ----------
        path:
            The filled table, or its folder.
        options:
            Those of the source ``csv``, such as ``image_root``.
        """
        table = FileIndex(path).one(*self.tells) if path.is_dir() else path
        imported = Csv().read(table, **{**options, "name": self.info.name})
        findings = [found for found in imported.findings if found.path != EXAMPLE_IMAGE]
        rows = [image != EXAMPLE_IMAGE for image in imported.manifest.column("image")]
        manifest = imported.manifest.select(rows)
        _check(manifest, self.template, table, findings)
        manifest = _classified(manifest, self.template, findings)
        manifest = replace(manifest, sources={self.info.name: self.info})
        if self.template.modality and not any(manifest.column("modality")):
            manifest = manifest.with_columns(modality=[self.template.modality] * len(manifest))
        if self.template.follow_up:
            manifest = in_order(manifest, table, findings)
        return Imported(manifest, findings)


def _classified(manifest: Manifest, template: Template, findings: list[Finding]) -> Manifest:
    """Spell the labels as the template does, and leave out those that it does not have."""
    if not template.classes:
        return manifest
    spelt = {label.lower(): label for label in template.classes}
    for image, names in zip(manifest.column("image"), manifest.labels, strict=True):
        for name in names:
            if name.lower() not in spelt:
                guess = nearest(name, template.classes)
                hint = f"Did you mean '{guess}'? " if guess else ""
                remedy = f"{hint}The image is kept unlabelled."
                problem = f"label is no class of {template.title}"
                findings.append(Finding("warning", problem, name, image, remedy=remedy))
    labels = [
        [spelt[name.lower()] for name in names if name.lower() in spelt]
        for names in manifest.labels
    ]
    return manifest.with_columns(labels=labels)


def _check(manifest: Manifest, template: Template, path: Path, findings: list[Finding]) -> None:
    """Report what the paper's task needs and the table does not hold."""
    for column, about in template.columns.items():
        values = manifest.labels if column == "labels" else manifest.column(column)
        empty = sum(value is None or value in ([], "") for value in values)
        if about.required and empty == len(values):
            raise UserError(f"'{path}' has no {column}.", f"{template.task} needs it: fill it in.")
        if about.required and empty:
            problem = f"{column} is empty"
            findings.append(Finding("warning", problem, f"{empty:,} rows", str(path)))
    if template.split_options and not any(manifest.column("split")):
        remedy = f"dermino data split MANIFEST {template.split_options}"
        findings.append(Finding("note", "no split yet", template.split, remedy=remedy))
    if template.expected_images not in (None, len(manifest)):
        counts = f"{len(manifest):,} here, {template.expected_images:,} published"
        findings.append(Finding("note", "number of images differs", counts))


def _source(name: str, template: Template) -> type[Source]:
    """Return the source that reads the filled template of one data set."""
    attributes = {
        "__doc__": f"{template.about.strip()}\n\n{inspect.getdoc(Proprietary)}",
        "template": template,
        "info": SourceInfo(
            name,
            title=template.title,
            licence="not published",
            citation=f"{template.paper}; owner: {template.owner}",
            vocabulary=template.classes,
        ),
        "used_for": template.used_for,
        "layout": f"a filled template: dermino data template {name} --out {name}.csv",
        "tells": (f"{name}.csv",),
        "expected_images": template.expected_images,
    }
    return type(template.title, (Proprietary,), attributes)


for _name, _template in templates().items():
    SOURCES.register(_name)(_source(_name, _template))
