"""Broader labels, unsure labels and the public taxonomy."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermino.cli.main import main
from dermino.data.levels import observed_parents
from dermino.data.manifest import Manifest
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.knowledge.build import build_taxonomy
from dermino.knowledge.certainty import Certainty
from dermino.knowledge.contrasts import contrast
from dermino.knowledge.load import load_taxonomy
from dermino.knowledge.public import checksum, read_public
from dermino.knowledge.tables import read_table
from dermino.knowledge.taxonomy import Taxonomy

INFO = SourceInfo(
    "levels",
    vocabulary=("melanoma", "basal cell carcinoma", "lipoma", "malignant", "benign"),
    parents=(
        ("melanoma", "malignant"),
        ("basal cell carcinoma", "malignant"),
        ("lipoma", "benign"),
    ),
)


def manifest(labels: list[list[str]], info: SourceInfo = INFO, **columns) -> Manifest:
    images = [f"{row}.jpg" for row in range(len(labels))]
    frame = pd.DataFrame({"image": images, "dataset": info.name, "labels": labels, **columns})
    return Manifest.from_frame(frame, ".", [info])


def told(taxonomy: Taxonomy, y: np.ndarray, n: np.ndarray) -> dict[str, float | None]:
    """Return what one row says of each concept; None where it says nothing."""
    return {
        name: float(value) if known else None
        for name, value, known in zip(taxonomy.names, y, n, strict=True)
    }


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["melanoma"], {"malignant": 1, "melanoma": 1, "basal cell carcinoma": 0, "benign": 0}),
        (["malignant"], {"malignant": 1, "melanoma": None, "lipoma": 0, "benign": 0}),
        (["malignant", "melanoma"], {"malignant": 1, "melanoma": 1, "basal cell carcinoma": 0}),
        (["benign"], {"lipoma": None, "melanoma": 0}),
        ([], {"malignant": None, "melanoma": None}),
    ],
)
def test_broader_labels_count_and_narrower_ones_are_unknown(labels, expected):
    images = manifest([["lipoma"], labels])
    taxonomy = build_taxonomy([images], "char-ngrams")
    y, n = taxonomy.encode(images).targets([1])
    row = told(taxonomy, y[0], n[0])
    assert {name: row[name] for name in expected} == expected
    one = taxonomy.targets(labels, "levels")
    np.testing.assert_array_equal(one[0], y[0])
    np.testing.assert_array_equal(one[1], n[0])


def test_one_dataset_does_not_decide_what_is_malignant_in_another():
    other = SourceInfo("flat", vocabulary=("melanoma", "malignant"))
    images = Manifest.join([manifest([["melanoma"]]), manifest([["melanoma"]], other)])
    taxonomy = build_taxonomy([images], "char-ngrams")
    y, n = taxonomy.encode(images).targets([0, 1])
    malignant = taxonomy.names.index("malignant")
    assert y[:, malignant].tolist() == [1, 0]
    assert n[:, malignant].tolist() == [1, 1]


def test_parents_survive_files_and_loops_are_refused(tmp_path):
    images = manifest([["melanoma"]])
    images.write(tmp_path / "m.parquet")
    assert Manifest.read(tmp_path / "m.parquet").sources["levels"].parents == INFO.parents
    taxonomy = build_taxonomy([tmp_path / "m.parquet"], "char-ngrams")
    taxonomy.write(tmp_path / "t")
    assert Taxonomy.read(tmp_path / "t").parents == taxonomy.parents
    loop = SourceInfo("d", vocabulary=("a", "b"), parents=(("a", "b"), ("b", "a")))
    with pytest.raises(UserError, match="broader than itself"):
        build_taxonomy([manifest([["a"]], loop)], "char-ngrams")


def test_levels_of_a_table_give_parents_where_they_agree():
    frame = pd.DataFrame(
        {"group": ["x", "x", "y", None], "label": ["a", "b", "b", "c"], "other": 1}
    )
    assert observed_parents(frame, ("group", "absent", "label")) == (("a", "x"),)


DIFFERENTIAL = manifest(
    [["eczema", "psoriasis", "scabies"], ["eczema"]],
    SourceInfo("scin", vocabulary=("eczema", "psoriasis", "scabies", "acne")),
    label_weights=[json.dumps({"eczema": 0.7, "psoriasis": 0.25, "scabies": 0.05}), None],
    label_confidences=[json.dumps({"eczema": 4, "psoriasis": 1}), None],
)


@pytest.mark.parametrize(
    ("certainty", "expected"),
    [
        (Certainty(), [1, None, None, 0]),
        (Certainty(min_confidence=0), [1, 1, None, 0]),
        (Certainty(soft=True, min_confidence=0), [0.7, 0.25, None, 0]),
        (Certainty(soft=True, min_weight=0, min_confidence=0), [0.7, 0.25, 0.05, 0]),
    ],
)
def test_differentials_become_targets_and_unsure_labels_are_ignored(certainty, expected):
    taxonomy = build_taxonomy([DIFFERENTIAL], "char-ngrams")
    y, n = taxonomy.encode(DIFFERENTIAL, certainty).targets([0, 1])
    row = told(taxonomy, y[0], n[0])
    names = ["eczema", "psoriasis", "scabies", "acne"]
    assert [row[name] for name in names] == [pytest.approx(x) if x else x for x in expected]
    assert told(taxonomy, y[1], n[1]) == dict.fromkeys(taxonomy.names, 0) | {"eczema": 1}


def test_unreadable_weights_name_the_row():
    images = manifest([["melanoma"]], label_weights=["{0.3"])
    with pytest.raises(UserError, match=r"label_weights.*row 0"):
        build_taxonomy([images], "char-ngrams").encode(images)


def test_public_taxonomy_is_as_reviewed_and_holds_what_sources_can_say():
    public, stored = read_public(), read_table("public_taxonomy")
    assert checksum(stored) == stored["sha256"]
    assert checksum({**stored, "version": "other"}) != stored["sha256"]
    for dataset, labels in public.labels.items():
        missing = set(SOURCES.get(dataset).info.vocabulary) - set(labels)
        assert not missing, (dataset, missing)
    taxonomy = build_taxonomy(text_encoder="char-ngrams", public=True)
    for dataset, labels in public.labels.items():
        for label, concept in labels.items():
            place = taxonomy.labels[dataset][label].concept
            assert (None if place is None else taxonomy.names[place]) == concept
    kept = {name: concept["concept"] for name, concept in stored["merged"].items()}
    for pair in stored["kept_apart"]:
        first, second = (kept.get(name, name) for name in pair["names"])
        assert first != second
        assert {first, second} <= set(taxonomy.names)


def test_own_labels_join_the_public_concepts():
    own = SourceInfo("clinic", vocabulary=("Seborrhoeic keratosis", "Zebra disease"))
    images = manifest([["Seborrhoeic keratosis"]], own)
    taxonomy = build_taxonomy([images], "char-ngrams", public=True)
    entry = taxonomy.labels["clinic"]["Seborrhoeic keratosis"]
    assert taxonomy.names[entry.concept] == "seborrheic keratosis"
    assert "zebra disease" in taxonomy.names


def test_public_by_name_and_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dermino.knowledge.text_encoders.AUTOMATIC", ("char-ngrams",))
    monkeypatch.chdir(tmp_path)
    taxonomy = load_taxonomy("public")
    out = Path("taxonomy")
    with pytest.raises(SystemExit) as stop:
        main(["labels", "build", "--public", "--out", str(out)])
    assert not stop.value.code
    assert Taxonomy.read(out).fingerprint == taxonomy.fingerprint
    assert load_taxonomy(out).names == taxonomy.names
    with pytest.raises(SystemExit) as stop:
        main(["labels", "build", "--out", str(out)])
    assert stop.value.code == 2
    assert "--public" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("benign epidermal", "malignant epidermal"),
        ("acute eczema", "chronic eczema"),
        ("pityriasis lichenoides acuta", "pityriasis lichenoides chronica"),
        ("rosacea with ocular disease", "rosacea without ocular disease"),
        ("melanoma", "not melanoma"),
        ("melanoma", "melanoma in situ"),
        ("basal cell carcinoma", "squamous cell carcinoma"),
        ("left foot ulcer", "right foot ulcer"),
        ("hypopigmentation", "hyperpigmentation"),
        ("hypertrichosis", "hypotrichosis"),
        ("neurofibromatosis type 1", "neurofibromatosis type 2"),
    ],
)
def test_traps_are_kept_apart_whatever_the_embedding(first, second):
    assert contrast(first, second)
