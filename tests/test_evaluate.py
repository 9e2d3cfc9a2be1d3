"""``dermino embed`` and ``dermino evaluate`` from manifests to results, and their refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.evaluate.classification import CLASSIFICATION_METRICS
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.embed import embed
from dermino.evaluate.evaluate import evaluate
from dermino.evaluate.leakage import SeenImages, run_folder, seen_in_pretraining
from dermino.evaluate.protocol import PROTOCOLS, Outcome, Trial
from dermino.evaluate.protocols.linear import LinearProbe
from dermino.evaluate.protocols.retrieval import Retrieval
from dermino.evaluate.summary import print_results
from dermino.models.encoder_file import EncoderFile
from dermino.models.load import create_backbone
from dermino.models.preprocess import Preprocess

ENCODER = "tiny=random:resnet10t"
COLOURS = {"bruise": (80, 40, 160), "burn": (200, 60, 40), "freckle": (150, 100, 60)}


def make_manifest(folder: Path, dataset: str = "skin", n: int = 12) -> Path:
    """Write ``n`` pictures of each of three colours, the last third of them in the test split."""
    random = np.random.default_rng(len(dataset))
    rows = []
    for label, colour in COLOURS.items():
        for number in range(n):
            pixels = np.clip(random.normal(colour, 30, (24, 30, 3)), 0, 255).astype(np.uint8)
            name = f"{dataset}_{label}_{number}.png"
            Image.fromarray(pixels).save(folder / name)
            rows.append(
                {
                    "image": name,
                    "dataset": dataset,
                    "split": "test" if number >= 2 * n // 3 else "train",
                    "labels": [label],
                    "lesion_id": f"{label}{number // 2}",
                    "malignant": label == "burn",
                }
            )
    path = folder / f"{dataset}.parquet"
    info = SourceInfo(dataset, title=dataset.title(), licence="CC0", synthetic=True)
    Manifest.from_frame(pd.DataFrame(rows), folder, [info]).write(path)
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return make_manifest(tmp_path)


def run(manifest: Path, **options: object) -> pd.DataFrame:
    defaults = {
        "encoders": [ENCODER],
        "data": [manifest],
        "out": manifest.parent / "results",
        "cache": manifest.parent / "cache",
        "image_size": 32,
        "replicates": 20,
        "workers": 0,
    }
    return evaluate(**{**defaults, **options})  # type: ignore[arg-type]


def trial(seed: int = 0, with_val: bool = False) -> Trial:
    """Three overlapping Gaussian classes in 16 dimensions as features of a task."""
    random = np.random.default_rng(seed)
    n = 3000
    targets = random.integers(0, 3, n)
    features = random.normal(size=(n, 16)) + 0.4 * random.normal(size=(3, 16))[targets]
    splits = random.choice(["train", "val", "test"] if with_val else ["train", "test"], n)
    names = np.array(["a", "b", "c"])[targets]
    frame = pd.DataFrame(
        {
            "image": [f"{row}.png" for row in range(n)],
            "dataset": "toy",
            "split": splits,
            "labels": [[name] for name in names],
        }
    )
    tasks, _ = derive_tasks(Manifest.from_frame(frame, "."))
    return Trial(tasks[0], features.astype(np.float32), seed)


def train_and_test(given: Trial) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train, test = given.task.rows("train"), given.task.rows("test")
    targets = given.task.targets
    return given.features[train], targets[train], given.features[test], targets[test]


def test_retrieval_equals_scikit_learn_or_breaks_ties_by_the_nearest() -> None:
    given = trial()
    x, y, queries, truth = train_and_test(given)
    reference = KNeighborsClassifier(5, metric="cosine").fit(x, y)
    scores = reference.predict_proba(queries)
    for outcome in (Retrieval().run(given), Retrieval(ties="nearest").run(given)):
        np.testing.assert_allclose(outcome.predictions.scores, scores)
        assert (outcome.predictions.targets == truth).all()
    as_the_authors = Retrieval().run(given).predictions.predicted
    np.testing.assert_array_equal(as_the_authors, reference.predict(queries))

    leaders = scores == scores.max(axis=1, keepdims=True)
    nearest = np.array([row[0] for row in outcome.columns["neighbour_targets"]])
    tied = leaders.sum(axis=1) > 1
    assert (outcome.predictions.predicted[~tied] == scores.argmax(1)[~tied]).all()
    first_leads = leaders[np.arange(len(nearest)), np.searchsorted(["a", "b", "c"], nearest)]
    decided = np.array(["a", "b", "c"])[outcome.predictions.predicted]
    assert (tied & first_leads).any()
    assert (decided == nearest)[tied & first_leads].all()

    similarities = np.array(outcome.columns["similarities"])
    assert (np.diff(similarities, axis=1) <= 0).all()
    images = given.task.images
    row = images.index(outcome.columns["neighbours"][0][0])
    expected = torch.cosine_similarity(
        torch.from_numpy(queries[:1]), torch.from_numpy(given.features[row : row + 1])
    )
    assert similarities[0, 0] == pytest.approx(float(expected), abs=1e-5)


def test_retrieval_uses_all_training_images_where_there_are_fewer_than_k() -> None:
    outcome = Retrieval(k=10_000).run(trial())
    assert len(np.unique(outcome.predictions.scores, axis=0)) == 1


@pytest.mark.parametrize("with_val", [False, True])
def test_linear_probe_is_as_good_as_logistic_regression_and_seeded(with_val: bool) -> None:
    given = trial(with_val=with_val)
    predictions = LinearProbe().run(given).predictions
    x, y, queries, truth = train_and_test(given)
    reference = LogisticRegression(max_iter=1000).fit(x, y).predict_proba(queries)
    ours, theirs = (
        roc_auc_score(truth, scores, multi_class="ovr")
        for scores in (predictions.scores, reference)
    )
    assert ours > theirs - 0.01
    assert (LinearProbe().run(given).predictions.scores == predictions.scores).all()
    np.testing.assert_allclose(predictions.scores.sum(axis=1), 1)


def test_results_folder(manifest: Path) -> None:
    table = run(manifest)
    out = manifest.parent / "results"
    assert sorted(set(table["protocol"])) == ["linear", "retrieval"]
    assert set(table["n"]) == {12}
    assert set(table["seen_in_pretraining"]) == {"none"}
    assert (table["ci_low"] <= table["value"]).all()
    assert (table["value"] <= table["ci_high"]).all()
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "results.csv", keep_default_na=False), table, check_dtype=False
    )

    described = json.loads((out / "evaluation.json").read_text())
    task = described["tasks"][0]
    assert task["counts_train"] == {"bruise": 8, "burn": 8, "freckle": 8}
    assert (task["n_test"], task["synthetic"], task["licence"]) == (12, True, "CC0")
    assert task["bootstrap_unit"] == "lesion_id"
    assert described["encoders"][0]["name"] == "tiny"
    assert described["bootstrap"]["replicates"] == 20

    kept = pd.read_parquet(out / "predictions" / "skin" / "tiny.retrieval.parquet")
    value = table.query("protocol == 'retrieval' and metric == 'accuracy'")["value"].item()
    assert (kept["target"] == kept["predicted"]).mean() == pytest.approx(value)
    assert all((Path(task["root"]) / image).is_file() for image in kept["image"])
    assert all("train" in _splits(manifest)[name] for name in kept["neighbours"].explode())
    scores = kept[["score:bruise", "score:burn", "score:freckle"]].to_numpy()
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def _splits(manifest: Path) -> dict[str, str]:
    table = Manifest.read(manifest).table
    return dict(zip(table["image"].to_pylist(), table["split"].to_pylist(), strict=True))


def test_what_is_done_is_not_done_again(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    for protocol in (Retrieval, LinearProbe):
        original = protocol.run

        def counted(self: Retrieval, given: Trial, original: object = original) -> Outcome:
            ran.append(type(self).__name__)
            if len(ran) == 2:
                raise KeyboardInterrupt
            return original(self, given)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(protocol, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        run(manifest)
    out = manifest.parent / "results"
    assert set(pd.read_csv(out / "results.csv")["protocol"]) == {"retrieval"}

    run(manifest)
    assert ran == ["Retrieval", "LinearProbe", "LinearProbe"]
    assert set(run(manifest)["protocol"]) == {"retrieval", "linear"}
    assert len(ran) == 3
    run(manifest, replicates=30)
    assert len(ran) == 5


def test_another_encoder_joins_and_a_changed_one_replaces_its_rows(manifest: Path) -> None:
    out = manifest.parent / "results"
    other = make_manifest(manifest.parent, "other")
    run(manifest, data=[manifest, other], protocols=["retrieval"])
    run(manifest, encoders=["second=random:resnet10t"], image_size=48, protocols=["retrieval"])
    assert _cells(out) == {("tiny", "skin"), ("tiny", "other"), ("second", "skin")}
    names = [e["name"] for e in json.loads((out / "evaluation.json").read_text())["encoders"]]
    assert names == ["tiny", "second"]

    # The same name for other weights: what the old ones scored elsewhere must go.
    run(manifest, image_size=40, protocols=["retrieval"])
    assert _cells(out) == {("tiny", "skin"), ("second", "skin")}


def _cells(out: Path) -> set[tuple[str, str]]:
    table = pd.read_csv(out / "results.csv")
    return set(zip(table["encoder"], table["task"], strict=True))


def test_copies_of_training_images_are_told(
    manifest: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train = (manifest.parent / "skin_burn_0.png").read_bytes()
    (manifest.parent / "skin_burn_11.png").write_bytes(train)
    run(manifest, protocols=["retrieval"])
    assert "1 test images are copies of training images" in capfd.readouterr().err


def test_target_column_and_tasks_of_several_manifests(manifest: Path) -> None:
    other = make_manifest(manifest.parent, "other")
    table = run(manifest, data=[manifest, other], target="malignant", protocols=["retrieval"])
    assert set(table["task"]) == {"skin.malignant", "other.malignant"}
    table = run(manifest, data=[manifest, other], tasks=["other"], protocols=["retrieval"])
    assert set(table["task"]) == {"other"}
    with pytest.raises(UserError, match="Did you mean 'malignant'"):
        run(manifest, target="malignat")
    with pytest.raises(UserError, match="Did you mean 'skin'"):
        run(manifest, tasks=["skn"])


def test_what_is_left_out_of_a_task_is_told(manifest: Path) -> None:
    whole = Manifest.read(manifest)
    labels, splits = whole.labels, whole.column("split")
    labels[0] = ["bruise", "burn"]
    labels[1] = []
    labels[2] = ["rare"]
    splits[35] = ""
    (task,), _ = derive_tasks(whole.with_columns(labels=labels, split=splits))
    assert task.classes == ("bruise", "burn", "freckle")
    assert len(task.targets) == 32
    notes = "\n".join(task.notes)
    assert "1 images with several labels" in notes
    assert "class 'rare' (1 images) is left out: it has no test image" in notes

    shared = whole.with_columns(lesion_id=["one"] * len(whole))
    (task,), _ = derive_tasks(shared)
    assert "1 lesions are in training and in test" in "\n".join(task.notes)
    assert len(set(task.clusters()[1] or ())) == 1

    patients = [f"patient {row}" for row in range(len(whole))]
    (task,), _ = derive_tasks(shared.with_columns(patient_id=patients))
    assert not any("lesions" in note for note in task.notes)
    assert task.clusters() == ("image", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": [""] * 36}, "dermino data split"),
        ({"split": ["train"] * 36}, "no test image"),
        ({"labels": [["burn"]] * 36}, "fewer than two classes"),
        ({"labels": [[]] * 36, "split": ["train"] * 36}, "no image is in the test split"),
    ],
)
def test_a_dataset_that_is_no_task_is_refused(
    manifest: Path, changes: dict[str, list], message: str
) -> None:
    Manifest.read(manifest).with_columns(**changes).write(manifest)
    with pytest.raises(UserError, match=message):
        run(manifest)


def test_images_without_labels_find_neighbours_and_score_nothing(
    manifest: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Manifest.read(manifest).with_columns(labels=[[]] * 36).write(manifest)
    table = run(manifest)
    assert set(table["protocol"]) == {"retrieval"}
    assert table[["value", "ci_low", "ci_high"]].isna().all(axis=None)
    assert set(table["note"]) == {"the images carry no labels, so nothing can be scored"}
    assert set(table["n"]) == {12}
    said = capfd.readouterr()
    assert "Protocol 'linear' is skipped for task 'skin'" in said.err
    assert "12 test images: the images carry no labels" in said.out

    out = manifest.parent / "results"
    task = json.loads((out / "evaluation.json").read_text())["tasks"][0]
    assert (task["classes"], task["counts_test"], task["n_test"]) == ([], {}, 12)
    kept = pd.read_parquet(out / "predictions" / "skin" / "tiny.retrieval.parquet")
    assert list(kept.columns) == ["image", "neighbours", "similarities"]
    assert {_splits(manifest)[name] for name in kept["neighbours"].explode()} == {"train"}

    with pytest.raises(UserError, match="linear needs them"):
        run(manifest, protocols=["linear"])
    with pytest.raises(UserError, match="no train image has a 'labels'"):
        run(manifest, target="labels")
    other = make_manifest(manifest.parent, "other")
    both = run(manifest, data=[manifest, other], protocols=["linear"])
    assert set(both["task"]) == {"other"}


def test_results_fit_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "task": "t",
        "protocol": "p",
        "subgroup": "all",
        "n": 9,
        "value": 0.5,
        "ci_low": 0.4,
        "ci_high": 0.6,
    }
    row |= {"seen_in_pretraining": "images+labels", "note": ""}
    row["encoder"] = "sixteen-letters-"
    table = pd.DataFrame([{**row, "metric": name} for name in CLASSIFICATION_METRICS])
    print_results(table, Console(width=80))
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "sixteen" in line)
    numbers = ["0.500", "(0.400-0.600)"] * 2
    assert line.split() == ["sixteen-letters-", *numbers, "images+labels"]


def test_a_continuous_target_is_refused(manifest: Path) -> None:
    ages = np.linspace(20.1, 80.7, 36)
    Manifest.read(manifest).with_columns(age=ages).write(manifest)
    with pytest.raises(UserError, match="does not look like classes"):
        run(manifest, target="age")


def test_bad_input_is_found_before_any_image_is_decoded(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("long work has begun")

    monkeypatch.setattr("dermino.evaluate.execution.extract_many", fail)
    (tmp_path / "file").touch()
    for options, message in (
        ({"protocols": ["retreival"]}, "Did you mean 'retrieval'"),
        ({"out": tmp_path / "file"}, "Cannot write"),
        ({"encoders": ["random:resnet10"]}, "Did you mean"),
        ({"encoders": [ENCODER, "tiny=random:resnet14t"]}, "both called 'tiny'"),
        ({"data": [tmp_path / "absent.parquet"]}, "no manifest"),
        ({"device": "cuda:99"}, "cannot be used"),
        ({"replicates": 0}, "at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            run(manifest, **options)
    (tmp_path / "skin_burn_3.png").unlink()
    with pytest.raises(UserError, match=r"1 of 36 images are missing:\n.*skin_burn_3"):
        run(manifest)


def test_seen_in_pretraining_compares_images(manifest: Path, tmp_path: Path) -> None:
    (task,), _ = derive_tasks(Manifest.read(manifest))
    folder = tmp_path / "run"
    weights = create_backbone("resnet10t").state_dict()
    EncoderFile("resnet10t", preprocess=Preprocess.for_size(32)).write(
        folder / "encoder.safetensors", weights
    )
    assert run_folder("random:resnet10t") is None
    assert run_folder(f"mine={folder}") == folder
    assert run_folder(str(folder / "encoder.safetensors")) == folder

    def exposure(*rows: tuple[str, str, bool]) -> tuple[str, int | None, int | None]:
        columns = zip(*rows, strict=True)
        names = ["dataset", "image", "labelled"]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), folder / "seen.parquet")
        found = seen_in_pretraining(task, SeenImages.read(folder), None)
        return found.kind, found.test_images, found.train_images

    assert exposure(("skin", "x/skin_burn_0.jpg", True)) == ("none", 0, 1)
    assert exposure(("skin", "skin_burn_11.jpg", False)) == ("images", 1, 0)
    assert exposure(("skin", "skin_burn_11.jpg", True)) == ("images+labels", 1, 0)
    assert exposure(("other", "skin_burn_11.png", True)) == ("none", 0, 0)
    assert seen_in_pretraining(task, None, None).kind == "unknown"
    assert seen_in_pretraining(task, None, {"other": {"images": 5}}).kind == "none"
    assert seen_in_pretraining(task, None, {"skin": {"images": 5}}).kind == "unknown"


def test_namesakes_in_other_folders_are_not_taken_for_each_other() -> None:
    def look_up(seen: list[str], asked: list[str]) -> list[bool]:
        table = pa.table({"dataset": ["d"] * len(seen), "image": seen, "labelled": [True] * 2})
        asked_for = pa.table({"dataset": ["d"] * len(asked), "image": asked})
        return SeenImages(table).look_up(asked_for)[0].tolist()

    asked = ["burn/1.png", "bruise/1.png"]
    assert look_up(["x/burn/1.png", "x/burn/2.png"], asked) == [True, False]
    assert look_up(["burn/1.png", "freckle/1.png"], asked[1:]) == [False]
    assert look_up(["part_1/a.png", "part_1/b.png"], ["images/a.jpg"]) == [True]


def test_isic_ids_are_compared_across_datasets(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "image": ["ISIC_0000001.jpg", "ISIC_0000002.jpg", "a.jpg", "b.jpg"],
            "dataset": "isic2017",
            "split": ["train", "test", "train", "test"],
            "labels": [["x"], ["x"], ["y"], ["y"]],
        }
    )
    (task,), _ = derive_tasks(Manifest.from_frame(frame, tmp_path))
    seen = pa.table(
        {"dataset": ["ham10000"], "image": ["p/ISIC_0000002_segm.png"], "labelled": [False]}
    )
    assert seen_in_pretraining(task, SeenImages(seen), None).kind == "images"


def test_embed_writes_a_table_of_features(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    embed(ENCODER, [manifest], out, image_size=32, cache=tmp_path / "cache", workers=0)
    frame = pd.read_parquet(out)
    assert np.stack(frame["feature"].tolist()).shape == (36, 512)
    assert frame["image"].tolist() == Manifest.read(manifest).table["image"].to_pylist()
    described = json.loads(pq.read_schema(out).metadata[b"dermino"])
    assert described["architecture"] == "resnet10t"
    with pytest.raises(UserError, match=r"\.parquet"):
        embed(ENCODER, [manifest], tmp_path / "features.npz")


def test_command_line(manifest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    common = ["--data", str(manifest), "--cache", str(manifest.parent / "cache")]
    common += ["--image-size", "32", "--workers", "0"]
    out = manifest.parent / "results"
    arguments = ["evaluate", "--encoder", ENCODER, "big=random:resnet14t", "--out", str(out)]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--protocol", "retrieval", "--replicates", "10", *common])
    assert done.value.code == 0
    assert "skin, retrieval, 12 test images" in capfd.readouterr().out
    assert _cells(out) == {("tiny", "skin"), ("big", "skin")}

    with pytest.raises(SystemExit) as refused:
        main([*arguments, "--protocol", "linaer", *common])
    assert refused.value.code == 2
    assert "Did you mean 'linear'" in capfd.readouterr().err

    features = manifest.parent / "features.parquet"
    with pytest.raises(SystemExit) as done:
        main(["embed", "--encoder", ENCODER, "--out", str(features), *common])
    assert done.value.code == 0
    assert features.is_file()


def test_protocols_are_registered() -> None:
    assert {"linear", "retrieval"} <= set(PROTOCOLS.names())
