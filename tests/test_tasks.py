"""Tasks: kinds of target, task files, divisions that others can repeat, and what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.data.source import SOURCES
from dermino.errors import UserError
from dermino.evaluate.derive import derive_tasks, make_task
from dermino.evaluate.suite import list_tasks, prepare_tasks, read_suite, suite_names
from dermino.evaluate.task import Task

DISEASES = ["common nevus", "atypical nevus", "melanoma"]


def make_manifest(n: int = 60, **columns: list) -> Manifest:
    """``n`` images of three diseases, of twenty lesions, half of them for training."""
    frame = pd.DataFrame(
        {
            "image": [f"part/IMD{row:03}.bmp" for row in range(n)],
            "dataset": "ph2",
            "split": ["train", "test"] * (n // 2),
            "labels": [[DISEASES[row // 2 % 3]] for row in range(n)],
            "mask": [f"mask/IMD{row:03}.bmp" if row else None for row in range(n)],
            "lesion_id": [f"{row // 3}" for row in range(n)],
            "age": np.linspace(20, 80, n),
            "grade": [f"{row % 12}" for row in range(n)],
            **columns,
        }
    )
    return Manifest.from_frame(frame, ".")


def write_suite(folder: Path, *tasks: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text("tasks:\n" + "".join(f"- {task}\n" for task in tasks))
    return path


def only(suite: Path | str, manifest: Manifest, name: str) -> Task:
    (task,) = prepare_tasks([read_suite(suite)], manifest, [name]).tasks
    return task


def test_targets_have_the_shape_of_their_kind() -> None:
    manifest = make_manifest()
    (masks,), _ = derive_tasks(manifest, "mask")
    assert masks.kind == "segmentation"
    assert masks.targets[0] == "mask/IMD001.bmp"
    assert len(masks.files()) == 2 * len(masks.targets) == 118

    (ages,), _ = derive_tasks(manifest, "age", kind="regression")
    assert ages.targets.dtype == np.float64
    (grades,), _ = derive_tasks(
        make_manifest(grade=[f"{row // 2 % 12}" for row in range(60)]), "grade", kind="ordinal"
    )
    assert grades.classes == tuple(str(grade) for grade in range(12))

    labels = [["a", "b"], ["a", "b"], ["c"], ["b"], [], []] * 10
    (several,), _ = derive_tasks(make_manifest(labels=labels), kind="multilabel")
    assert several.classes == ("a", "b")
    assert several.targets.tolist() == [[1, 1], [1, 1], [0, 0], [0, 1]] * 10
    assert "class 'c' (10 images) is left out: it has no test image" in several.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sorting"}, "Unknown kind of task"),
        ({"target": "labels", "kind": "ordinal"}, "the order of the classes is not known"),
        ({"target": "labels", "kind": "regression"}, "holds lists"),
        ({"target": "lesion_id", "kind": "caption", "names": ["x"]}, "Unknown task 'x'"),
    ],
)
def test_targets_that_do_not_fit_the_kind_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        derive_tasks(make_manifest(), **options)


def test_concepts_merge_labels_without_regard_to_case() -> None:
    manifest = make_manifest(labels=[["Common Nevus", "benign"], ["melanoma", "other"]] * 30)
    swapped = manifest.with_columns(split=(["train"] * 2 + ["test"] * 2) * 15)
    concepts = {"common nevus": "nevus", "melanoma": "melanoma"}
    task = make_task("t", swapped, concepts=concepts)
    assert task.classes == ("melanoma", "nevus")
    assert len(task.targets) == 60
    several = make_task("t", swapped, kind="multilabel", concepts={**concepts, "other": "other"})
    assert several.classes == ("melanoma", "nevus", "other")
    assert several.targets.sum(axis=1).tolist() == [1, 2] * 30


def test_validation_rows_come_from_training_rows_and_divide_no_lesion() -> None:
    task = make_task("t", make_manifest(split=["train"] * 45 + ["test"] * 15))
    with_val = task.with_validation(0.2, seed=3)
    lesions = np.array(with_val.manifest.column("lesion_id"))
    train, val = with_val.rows("train"), with_val.rows("val")
    assert sorted([*train, *val]) == task.rows("train").tolist()
    assert 6 <= len(val) <= 12
    assert not set(lesions[train]) & set(lesions[val])
    assert (with_val.rows("test") == task.rows("test")).all()
    assert with_val.with_validation() is with_val
    assert task.with_validation(0.2, seed=3).rows("val").tolist() == val.tolist()

    fewer = task.with_training_rows(train[:5])
    assert fewer.rows("train").tolist() == train[:5].tolist()
    assert len(fewer.targets) == len(task.targets)


def test_shipped_suites_name_known_datasets_or_say_whose_they_are() -> None:
    assert suite_names() == ["open", "panderm", "paper"]
    files = {name: read_suite(name) for name in suite_names()}
    for file in files.values():
        for task in file.suite.tasks:
            assert task.private or task.dataset in SOURCES
    paper = list_tasks([files["paper"]])
    assert len(paper) == 20
    assert (paper["kind"] == "segmentation").sum() == 5
    counts = " ".join(str(number) for number in paper["classes"] if number)
    assert counts == "5 2 2 2 2 2 2 4 6 2 4 5 3 9"


def test_the_paper_divides_ph2_in_halves_alike_for_both_its_tasks() -> None:
    manifest = make_manifest(n=60)
    classes, masks = only("paper", manifest, "ph2-cls"), only("paper", manifest, "ph2-seg")
    assert classes.classes == ("benign", "melanoma")
    assert classes.counts("train") == {"benign": 20, "melanoma": 10}
    own = dict(zip(classes.images, classes.manifest.column("split"), strict=True))
    assert all(
        own[image] == part
        for image, part in zip(masks.images, masks.manifest.column("split"), strict=True)
    )


def test_a_division_depends_on_names_and_seed_not_on_order_or_folders(tmp_path: Path) -> None:
    manifest = make_manifest()
    task = only("paper", manifest, "ph2-cls")
    order = np.random.default_rng(0).permutation(60)
    moved = [f"elsewhere/{Path(image).name}" for image in manifest.column("image")]
    other = only("paper", manifest.with_columns(image=moved).select(order), "ph2-cls")
    parts = [
        {Path(i).name: part for i, part in zip(t.images, t.manifest.column("split"), strict=True)}
        for t in (task, other)
    ]
    assert parts[0] == parts[1]

    suite = write_suite(tmp_path, "{name: mine, dataset: ph2, split: {seed: 1}}")
    assert only(suite, manifest, "mine").manifest.column("split") != task.manifest.column("split")


def test_an_exported_list_divides_alike(tmp_path: Path) -> None:
    manifest = make_manifest()
    manifest.write(tmp_path / "ph2.parquet")
    data = ["--data", str(tmp_path / "ph2.parquet")]
    with pytest.raises(SystemExit) as done:
        main(["evaluate", "--suite", "paper", *data, "--export-splits", str(tmp_path)])
    assert done.value.code == 0
    suite = write_suite(
        tmp_path, "{name: mine, dataset: ph2, split: {rule: list, file: ph2-cls.csv}}"
    )
    listed = only(suite, manifest, "mine").manifest.column("split")
    assert listed == only("paper", manifest, "ph2-cls").manifest.column("split")


def test_rules_choose_the_publishers_parts(tmp_path: Path) -> None:
    parts = (["train"] * 2 + ["val"] * 2 + ["test"] * 2) * 10
    suite = write_suite(
        tmp_path,
        "{name: halves, dataset: ph2, split: {of: [val, test]}}",
        "{name: official, dataset: ph2, split: {rule: official, val: [], test: [val, test]}}",
        "{name: grouped, dataset: ph2, split: {rule: given, group: lesion_id}}",
        "{name: some, dataset: ph2, where: {grade: ['1', '2', '3']}}",
    )
    manifest = make_manifest(labels=[[DISEASES[row % 2]] for row in range(60)], split=parts)
    halves = only(suite, manifest, "halves")
    assert (len(halves.rows("train")), len(halves.rows("test"))) == (20, 20)
    official = only(suite, manifest, "official")
    assert (len(official.rows("train")), len(official.rows("test"))) == (20, 40)
    assert len(only(suite, manifest, "grouped").rows("val")) == 20
    assert len(only(suite, manifest, "some").targets) == 15

    without = manifest.with_columns(split=[""] * 60)
    grouped = only(suite, without, "grouped")
    assert any("divided anew" in note for note in grouped.notes)
    assert not any("lesions are in training and in test" in note for note in grouped.notes)
    with pytest.raises(UserError, match="has no train images here"):
        only(suite, without, "official")


def test_what_is_missing_is_told_with_where_to_get_it(tmp_path: Path) -> None:
    prepared = prepare_tasks([read_suite("paper")], make_manifest())
    assert [task.name for task in prepared.tasks] == ["ph2-cls", "ph2-seg"]
    assert len(prepared.missing) == 18
    assert "https://ddi-dataset.github.io" in prepared.missing["ddi"]
    assert "dermino data import ddi PATH" in prepared.missing["ddi"]
    assert "China-Japan Friendship Hospital" in prepared.missing["mpl5"]
    assert prepared.protocols["ph2-seg"] == ("segmentation-linear", "segmentation-upernet")
    note = "60 images here, 200 in the reference"
    assert note in prepared.tasks[0].notes
    with pytest.raises(UserError, match="data import ddi"):
        prepare_tasks([read_suite("paper")], make_manifest(), ["ddi"])
    with pytest.raises(UserError, match="Did you mean 'ph2-cls'"):
        prepare_tasks([read_suite("paper")], make_manifest(), ["ph2cls"])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("{name: a, datset: ph2}", "Did you mean|Unknown key"),
        ("{name: a b, dataset: ph2}", "name"),
        ("{name: a, dataset: ph2, split: {rule: list}}", "'file' goes with the rule 'list'"),
        ("{name: a, dataset: ph2, split: {like: b}}", "divided like 'b'"),
    ],
)
def test_a_broken_task_file_is_refused(tmp_path: Path, task: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_suite(write_suite(tmp_path, task))
    with pytest.raises(UserError, match="Did you mean 'paper'"):
        read_suite("papers")


def test_tasks_are_listed_without_any_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["evaluate", "--list-tasks", "--suite", "paper"])
    assert done.value.code == 0
    assert "fitzpatrick17k-9" in capsys.readouterr().out
