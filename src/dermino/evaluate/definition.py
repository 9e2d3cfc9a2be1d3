"""A task as data: a row of a YAML file that says what to ask of which dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dermino.config import Config
from dermino.evaluate.task import LABELS, TaskKind

Part = Literal["train", "val", "test"]


class SplitRule(Config):
    """How a task's images are divided.

    Parameters
    ----------
    rule:
        ``stratified``: every class keeps the ``fractions``. ``official``: the publisher's parts.
        ``given``: the manifest's split where it has training and test rows, else stratified.
        ``list``: a CSV file of images and splits.
    fractions:
        Shares of the parts; the paper divides in halves (section 4.2).
    seed:
        Of the stratified division, which also depends on the images' names, not on their order.
    group:
        A column whose values stay together; ``auto``: patients where known, else lesions. None,
        as in the paper, lets pictures of one lesion fall on both sides.
    of:
        The publisher's parts that a stratified division takes; empty: all images.
    train, val, test:
        Which of the publisher's parts serve as which part of an official split.
    like:
        Another task of the file, whose division is taken over image by image.
    file:
        The CSV of the rule ``list``, with columns ``image`` and ``split``, as
        ``--export-splits`` writes it; relative to the task file.
    """

    rule: Literal["stratified", "official", "given", "list"] = "stratified"
    fractions: dict[Part, float] = Field({"train": 0.5, "test": 0.5})
    seed: int = Field(0, ge=0)
    group: str | None = None
    of: tuple[Part, ...] = ()
    train: tuple[Part, ...] = ("train",)
    val: tuple[Part, ...] = ("val",)
    test: tuple[Part, ...] = ("test",)
    like: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _list_has_a_file(self) -> SplitRule:
        if (self.rule == "list") != (self.file is not None):
            raise ValueError("'file' goes with the rule 'list', and with no other")
        return self


class TaskDefinition(Config):
    """One row of a task file.

    Parameters
    ----------
    name:
        Of the task; unique in its file.
    title:
        For people.
    reference:
        Where the task comes from, such as a section of a paper.
    dataset:
        Name of the dataset in the manifest, usually that of its source.
    images:
        How many images the reference has, for comparison.
    modality:
        What the images are: dermoscopic, clinical, diverse, histology, tbp.
    private:
        Whose it is, where the data cannot be had.
    kind:
        What is asked.
    target:
        The manifest column that holds the answers.
    concepts:
        From raw labels to classes, without regard to case; other labels are dropped. Default: raw
        labels are the classes.
    classes:
        The classes, lowest first for ``ordinal``. Default: all that occur.
    min_images:
        Classes with fewer images are left out.
    where:
        Only rows whose column has one of the values.
    split:
        How the images are divided.
    protocols:
        How it is asked, by default.
    metrics:
        What the reference reports, best known first.
    subgroups:
        Columns by which results are also looked at.
    """

    name: str = Field(pattern=r"^[\w.@+-]+$")
    title: str = ""
    reference: str = ""
    dataset: str
    images: int | None = None
    modality: str = ""
    private: str = ""
    kind: TaskKind = "classification"
    target: str = LABELS
    concepts: dict[str, str] | None = None
    classes: tuple[str, ...] | None = None
    min_images: int = Field(1, ge=1)
    where: dict[str, tuple[str, ...]] = Field({})
    split: SplitRule = SplitRule()
    protocols: tuple[str, ...] = ("retrieval", "linear")
    metrics: tuple[str, ...] = ("macro_auroc", "macro_f1")
    subgroups: tuple[str, ...] = ()


class Suite(Config):
    """A task file: several tasks that belong together.

    Parameters
    ----------
    title, description:
        For people.
    tasks:
        The tasks.
    """

    title: str = ""
    description: str = ""
    tasks: tuple[TaskDefinition, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Suite:
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tasks are called '{name}'")
        divided = {task.name for task in self.tasks if task.split.like is None}
        for task in self.tasks:
            if task.split.like is not None and task.split.like not in divided:
                raise ValueError(
                    f"'{task.name}' is divided like '{task.split.like}', which is not in the file "
                    "or is itself divided like another"
                )
        return self
