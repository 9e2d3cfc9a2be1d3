from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.data.source import import_source
from dermino.data.split import split
from dermino.errors import UserError

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "HAM10000"
CLASSES = {"nevus": 0.7, "melanoma": 0.2, "dermatofibroma": 0.06, "": 0.04}


@pytest.fixture
def archive() -> Manifest:
    """1,000 images of about 400 patients in two datasets that use the same patient numbers."""
    rng = np.random.default_rng(0)
    names = rng.choice(list(CLASSES), 1000, p=list(CLASSES.values()))
    frame = pd.DataFrame(
        {
            "image": [f"{row}.jpg" for row in range(1000)],
            "dataset": rng.choice(["a", "b"], 1000),
            "labels": [[name] if name else [] for name in names],
            "patient_id": [f"P{number}" for number in rng.geometric(0.004, 1000)],
        }
    )
    frame.loc[:50, "patient_id"] = None
    return Manifest.from_frame(frame, ".")


def divided(manifest: Manifest, column: str) -> list[object]:
    sides = defaultdict(set)
    keys = zip(manifest.column("dataset"), manifest.column(column), strict=True)
    for key, side in zip(keys, manifest.column("split"), strict=True):
        if key[1] is not None:
            sides[key].add(side)
    return [key for key, found in sides.items() if len(found) > 1]


def shares(manifest: Manifest) -> dict[tuple[str, str], float]:
    names = ["".join(labels) for labels in manifest.labels]
    pairs = Counter(zip(names, manifest.column("split"), strict=True))
    return {key: count / names.count(key[0]) for key, count in pairs.items()}


@pytest.mark.parametrize(
    "fractions", [{"train": 0.5, "test": 0.5}, {"train": 0.7, "val": 0.1, "test": 0.2}]
)
def test_classes_keep_their_shares_and_patients_stay_whole(
    archive: Manifest, fractions: dict[str, float]
) -> None:
    result = split(archive, fractions)
    assert divided(result, "patient_id") == []
    for (_, side), share in shares(result).items():
        assert share == pytest.approx(fractions[side], abs=0.05)
    for side, count in Counter(result.column("split")).items():
        assert count / 1000 == pytest.approx(fractions[side], abs=0.01)


def test_every_split_gets_its_share_of_large_and_small_groups() -> None:
    rng = np.random.default_rng(0)
    lesions = np.repeat(np.arange(600), rng.choice([1, 2, 5], 600, p=[0.6, 0.3, 0.1]))
    frame = pd.DataFrame({"image": [f"{row}.jpg" for row in range(len(lesions))]})
    frame = frame.assign(dataset="a", lesion_id=lesions.astype(str), labels=[["x"]] * len(lesions))
    fractions = {"train": 0.5, "val": 0.2, "test": 0.3}
    result = split(Manifest.from_frame(frame, "."), fractions)
    size = frame.groupby("lesion_id")["image"].transform("size").to_numpy()
    for number in (1, 2, 5):
        sides = Counter(np.array(result.column("split"))[size == number])
        for name, share in fractions.items():
            assert sides[name] / (size == number).sum() == pytest.approx(share, abs=0.02)


def test_classes_of_two_images_still_add_up_to_the_shares() -> None:
    frame = pd.DataFrame({"image": [f"{row}.jpg" for row in range(200)], "dataset": "a"})
    frame["labels"] = [[str(row // 2)] for row in range(200)]
    result = split(Manifest.from_frame(frame, "."), {"train": 0.8, "val": 0.2})
    assert Counter(result.column("split"))["val"] == pytest.approx(40, abs=3)


def test_without_groups_the_shares_are_exact(archive: Manifest) -> None:
    result = split(archive, group=None)
    names = Counter(
        (dataset, "".join(labels), side)
        for dataset, labels, side in zip(
            result.column("dataset"), result.labels, result.column("split"), strict=True
        )
    )
    for (dataset, name, _), count in names.items():
        other = names[dataset, name, "train"] + names[dataset, name, "test"] - count
        assert abs(count - other) <= 1


def test_the_seed_decides(archive: Manifest) -> None:
    assert split(archive, seed=3).table.equals(split(archive, seed=3).table)
    assert not split(archive, seed=3).table.equals(split(archive, seed=4).table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": {"train": 0.5, "test": 0.4}}, "add up to 0.9"),
        ({"fractions": {"train": 0.5, "tset": 0.5}}, "Did you mean 'test'"),
        ({"group": "patientid"}, "Did you mean 'patient_id'"),
        ({"stratify": "label"}, "Did you mean 'labels'"),
        ({"group": "dataset", "fractions": {"train": 0.4, "val": 0.3, "test": 0.3}}, "2 groups"),
    ],
)
def test_what_cannot_be_divided_is_explained(
    archive: Manifest, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        split(archive, **options)


def test_split_command_writes_into_the_manifest(archive: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    archive.write(path)
    with pytest.raises(SystemExit, match="0"):
        main(["data", "split", str(path), "--train", "0.8", "--test", "0.2", "--seed", "5"])
    expected = split(archive, {"train": 0.8, "test": 0.2}, seed=5)
    assert Manifest.read(path).column("split") == expected.column("split")
    with pytest.raises(SystemExit, match="2"):
        main(["data", "split", str(path), "--train", "0.8"])


@pytest.mark.skipif(not REAL.is_dir(), reason="HAM10000 is not here")
def test_ham10000_in_halves_by_lesion() -> None:
    result = split(import_source("ham10000", REAL).manifest)
    assert divided(result, "lesion_id") == []
    assert abs(Counter(result.column("split"))["train"] - 5007.5) < 2
    assert all(share == pytest.approx(0.5, abs=0.01) for share in shares(result).values())
