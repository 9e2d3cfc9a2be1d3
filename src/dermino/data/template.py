"""Tables for the owners of unpublished data sets: what to fill in, and for which task."""

from __future__ import annotations

import csv
import io
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from dermino.config import Config
from dermino.data.schema import COLUMNS
from dermino.errors import UserError, unknown
from dermino.files import write_text

EXAMPLE_IMAGE = "EXAMPLE-delete-this-row.jpg"
_MEANINGS = {
    "image": "path of the picture, relative to the folder of the pictures",
    "labels": "one of the classes below",
    "patient_id": "pseudonym of the patient: never a name or a hospital number",
    "lesion_id": "pseudonym of the lesion",
    "split": "train, val or test; empty: dermino makes the split",
}


class TemplateColumn(Config):
    """A column to fill in: an example of its values, whether it must be, and what it holds.

    Without ``meaning`` it is a column of the manifest and means what it means there.
    """

    example: str = ""
    required: bool = False
    meaning: str = ""


class Template(Config):
    """What a data set's owner fills in.

    ``task`` says what is asked of the images, ``paper`` where; ``suite`` names the shipped tasks
    that hold it under the data set's name. ``split`` is the paper's rule in words, and
    ``split_options`` the options of ``dermino data split`` that follow it where no suite does.
    ``follow_up`` asks for the checks of serial pictures and outcomes.
    """

    title: str
    owner: str
    paper: str
    about: str
    task: str
    used_for: tuple[str, ...]
    split: str
    columns: dict[str, TemplateColumn]
    classes: tuple[str, ...] = ()
    modality: str | None = None
    expected_images: int | None = None
    suite: str = ""
    split_options: str = ""
    follow_up: bool = False


@cache
def templates() -> dict[str, Template]:
    """Return the templates by the names of their data sets, sorted."""
    folder = files("dermino.data").joinpath("templates")
    found = [item for item in folder.iterdir() if item.name.endswith(".yaml")]
    return {
        item.name.removesuffix(".yaml"): Template.model_validate(
            yaml.safe_load(item.read_text(encoding="utf-8"))
        )
        for item in sorted(found, key=lambda item: item.name)
    }


def write_template(name: str, out: str | Path) -> Path:
    """Write a table to fill in, with one example row, and instructions beside it.

    Parameters
    ----------
    name:
        A data set of :func:`templates`, such as ``mpl5``.
    out:
        The ``.csv`` file to write.

    Returns
    -------
    Path
        The instructions: a text file of the same name.

    Raises
    ------
    UserError
        For an unknown name, or if ``out`` exists: a filled table is never overwritten.
    """
    if name not in templates():
        raise unknown("template", name, templates())
    out = Path(out)
    if out.suffix.lower() != ".csv":
        raise UserError(f"'{out}' is no CSV file.", f"Write --out {out.with_suffix('.csv')}")
    if out.exists():
        raise UserError(f"'{out}' exists and may be filled in.", "Choose another --out.")
    template = templates()[name]
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(template.columns)
    examples = {column: about.example for column, about in template.columns.items()}
    rows.writerow({**examples, "image": EXAMPLE_IMAGE}.values())
    write_text(out, text.getvalue())
    instructions = out.with_suffix(".txt")
    write_text(instructions, _instructions(name, template, out))
    return instructions


def _instructions(name: str, template: Template, out: Path) -> str:
    manifest = out.with_suffix(".parquet").name
    lines = [
        f"{template.title}: how to fill in {out.name}",
        "",
        template.about.strip(),
        f"Task: {template.task} ({template.paper}).",
        "",
        "One row an image. Delete the example row. Save as CSV in UTF-8. Leave unknown values "
        "empty.",
        "Columns marked * must be filled in; empty ones may be deleted, and others added.",
        "",
    ]
    for column, about in template.columns.items():
        known = COLUMNS[column].meaning if column in COLUMNS else ""
        meaning = about.meaning or _MEANINGS.get(column, known)
        example = f" (example: {about.example})" if about.example else ""
        lines.append(f"  {column}{'*' if about.required else ''}: {meaning}{example}")
    if template.classes:
        lines += ["", "Classes:", *(f"  {label}" for label in template.classes)]
    lines += ["", f"Split: {template.split}", "", "Then:", ""]
    lines.append(
        f"  dermino data import {name} {out.name} --set image_root=PHOTOS --out {manifest}"
    )
    if template.split_options:
        lines.append(f"  dermino data split {manifest} {template.split_options}")
    if "classification" in template.used_for:
        task = f"--suite {template.suite} --task {name} " if template.suite else ""
        lines.append(f"  dermino evaluate --encoder ENCODER --data {manifest} {task}--out results")
    return "\n".join(lines) + "\n"
