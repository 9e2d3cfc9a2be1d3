"""Procedural images: reproducible, complete, and without a shortcut to the diagnosis."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import label
from scipy.stats import chi2_contingency

from dermino.data.generate import DIAGNOSES, Case, generate, population, render
from dermino.data.generate.captions import write_caption
from dermino.data.generate.optics import ITA_RANGES, typology_angle
from dermino.data.manifest import Manifest
from dermino.data.schema import COLUMNS
from dermino.errors import UserError

SIZE = 96


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(islice(population(seed=7, size=SIZE), 6000))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*/0*"))
    return {f"{p.parent.name}/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_bytes_depend_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    one = generate(tmp_path / "one", n=40, size=SIZE, seed=3, workers=1)
    generate(tmp_path / "two", n=70, size=SIZE, seed=3, workers=2)
    generate(tmp_path / "other", n=2, size=SIZE, seed=4, workers=1)
    first, second = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert len(first) == 80
    assert first.items() <= second.items()
    assert not first.items() & digests(tmp_path / "other").items()
    two = Manifest.read(tmp_path / "two" / "manifest.parquet")
    assert one.table.equals(two.select(np.arange(40)).table)


def test_the_manifest_is_complete_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    generate(tmp_path, n=60, size=SIZE, workers=1, labelled=0.5)
    manifest = Manifest.read(tmp_path / "manifest.parquet")
    info = manifest.sources["synthetic"]
    assert info.synthetic
    assert "not for science" in info.title
    assert set(info.vocabulary) == {diagnosis.name for diagnosis in DIAGNOSES}
    frame = manifest.frame
    filled = [name for name in COLUMNS if name not in ("time", "event")]
    assert not frame[[*filled, "diagnosis", "malignant", "diameter_mm"]].isna().any().any()
    assert ((frame["diagnosis"] == "acne") == frame["acne_grade"].notna()).all()
    for row, labels in enumerate(manifest.labels):
        diagnosis, caption = frame["diagnosis"][row], frame["caption"][row]
        assert labels in ([], [diagnosis])
        assert (diagnosis in caption) == bool(labels), caption
        image = Image.open(manifest.path(row))
        mask = np.asarray(Image.open(manifest.root / frame["mask"][row]))
        assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))
        assert set(np.unique(mask)) == {0, 255}
    assert 10 < manifest.labelled.sum() < 50


def test_an_interrupted_folder_has_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tmp_path, n=2, size=SIZE, workers=1)
    monkeypatch.setattr("dermino.data.generate.dataset.render", lambda case: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate(tmp_path, n=2, size=SIZE, seed=1, workers=1)
    assert not (tmp_path / "manifest.parquet").exists()


def test_the_mask_lies_on_something_that_can_be_seen(cases: list[Case]) -> None:
    distances = defaultdict(list)
    for case in cases[:400]:
        image, mask = render(case)
        inside = mask > 0
        assert inside.mean() > 0.0005, case
        edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert not edge.any(), case
        rows, columns = np.nonzero(inside)
        box = np.s_[max(rows.min() - 5, 0) : rows.max() + 6, max(columns.min() - 5, 0) :]
        near = image[box][:, : np.ptp(columns) + 11].astype(float)
        part = inside[box][:, : np.ptp(columns) + 11]
        distances[case.diagnosis].append(
            np.linalg.norm(near[part].mean(axis=0) - near[~part].mean(axis=0))
        )
    for diagnosis, values in distances.items():
        assert np.median(values) > 12, diagnosis
        assert np.mean(np.array(values) > 4) > 0.85, diagnosis


def test_lesions_grow_from_visit_to_visit(cases: list[Case]) -> None:
    lesions = defaultdict(list)
    for case in cases[:250]:
        lesions[case.lesion_id].append(case)
    followed = [visits for visits in lesions.values() if len(visits) > 1]
    assert len(followed) > 20
    for visits in followed:
        # Acne grows by papules, which at this size are too small to measure in pixels.
        acne = visits[0].diagnosis == "acne"
        areas = [case.papules if acne else render(case)[1].sum() for case in visits]
        assert areas == sorted(areas), visits
        assert pd.Series([case.day for case in visits]).is_monotonic_increasing
        assert len({case.diagnosis for case in visits}) == 1
        assert len({case.photograph for case in visits}) == len(visits)


def test_the_acne_grade_follows_the_count(cases: list[Case]) -> None:
    bands = {0: range(1, 6), 1: range(6, 21), 2: range(21, 51), 3: range(51, 71)}
    graded = [case for case in cases if case.diagnosis == "acne"]
    assert {case.acne_grade for case in graded} == set(bands)
    assert all(case.papules in bands[case.acne_grade] for case in graded)
    assert all(case.acne_grade is None for case in cases if case.diagnosis != "acne")
    for case in graded[:25]:
        _, mask = render(replace(case, size=224))
        assert label(mask)[1] == case.papules


def test_what_is_not_the_disease_does_not_tell_the_disease(cases: list[Case]) -> None:
    lesions = [case for case in cases if case.visit == 0]
    diagnosis = [case.diagnosis for case in lesions]
    nuisances = {
        "modality": [case.modality for case in lesions],
        "skin type": [case.skin_type for case in lesions],
        "sex": [case.sex for case in lesions],
        "site": [case.site for case in lesions],
        "ruler": [case.photograph.ruler for case in lesions],
        "hair": [min(case.photograph.hairs, 3) for case in lesions],
        "vignette": [case.photograph.vignette > 0 for case in lesions],
        "bubbles": [case.photograph.bubbles > 0 for case in lesions],
        "pen": [case.photograph.pen for case in lesions],
        "exposure": [case.photograph.exposure > 0.1 for case in lesions],
    }
    for name, values in nuisances.items():
        assert len(set(values)) > 1, name
        p = chi2_contingency(pd.crosstab(pd.Series(diagnosis), pd.Series(values))).pvalue
        assert p > 0.001, f"{name} depends on the diagnosis (p = {p:.1e})"
    share = pd.Series([case.diameter / case.field_of_view for case in cases])
    means = share.groupby([case.diagnosis for case in cases]).transform("mean")
    assert means.var() / share.var() < 0.01


def test_skin_has_the_typology_angle_of_its_type(cases: list[Case]) -> None:
    angles = defaultdict(list)
    for case in cases[:200]:
        image, mask = render(case)
        skin = image[(mask == 0) & (image.min(axis=2) > 15)] / 255
        angles[case.skin_type].append(float(typology_angle(np.median(skin, axis=0))))
    medians = [float(np.median(angles[skin_type])) for skin_type in sorted(angles)]
    assert len(medians) == 6
    assert medians == sorted(medians, reverse=True)
    for median, (low, high) in zip(medians, ITA_RANGES.values(), strict=True):
        assert low - 12 < median < high + 12


def test_captions_vary(cases: list[Case]) -> None:
    captions = [write_caption(case) for case in cases[:300]]
    assert len(set(captions)) > 280
    assert all(caption.endswith(".") and "  " not in caption for caption in captions)


@pytest.mark.parametrize(
    ("option", "value"),
    [("n", 0), ("size", 8), ("seed", -1), ("workers", 0), ("labelled", 1.5)],
)
def test_a_number_out_of_range_is_named(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(UserError, match=option):
        generate(tmp_path, **{option: value})
