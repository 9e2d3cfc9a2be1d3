"""Weighted votes and rankings of the gallery, against torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.protocol import Trial
from dermino.evaluate.protocols.retrieval import Retrieval, WeightedRetrieval
from dermino.evaluate.ranked_gallery import ranking_scores
from test_linear import make_trial


@pytest.fixture(scope="module")
def given() -> Trial:
    return make_trial()


def values(score: PooledScore) -> np.ndarray:
    assert score.per_image is not None
    return score.per_image


def test_rankings_agree_with_torchmetrics_and_scikit_learn(given: Trial) -> None:
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    (train, y), (test, truth) = given.part("train"), given.part("test")
    scores = ranking_scores(test, truth, train, y, 5)
    cosine = torch.cosine_similarity(test[:, None], train[None], dim=2)
    for query in range(40):
        relevant = y == truth[query]
        for name, expected in (
            ("hit_rate_at_5", retrieval.retrieval_hit_rate(cosine[query], relevant, top_k=5)),
            ("recall_at_5", retrieval.retrieval_recall(cosine[query], relevant, top_k=5)),
            ("mean_average_precision", average_precision_score(relevant, cosine[query])),
        ):
            assert values(scores[name])[query] == pytest.approx(float(expected), abs=1e-6)


def test_a_query_without_a_relevant_image_is_undefined(given: Trial) -> None:
    (train, y), (test, truth) = given.part("train"), given.part("test")
    keep = y != 2
    for score in ranking_scores(test, truth, train[keep], y[keep], 5).values():
        np.testing.assert_array_equal(np.isnan(values(score)), truth.numpy() == 2)
        assert score.note


def test_votes_count_by_similarity(given: Trial) -> None:
    uniform, weighted = Retrieval().run(given), WeightedRetrieval().run(given)
    assert uniform.predictions is not None
    assert weighted.predictions is not None
    assert uniform.scores
    assert not weighted.scores
    similarities = np.array(weighted.columns["similarities"])
    names = np.array(weighted.columns["neighbour_targets"])
    for score, outcome in ((similarities, weighted), (np.ones_like(similarities), uniform)):
        shares = score / score.sum(axis=1, keepdims=True)
        expected = np.stack([(shares * (names == name)).sum(1) for name in "abc"], axis=1)
        np.testing.assert_allclose(outcome.predictions.scores, expected, atol=1e-6)
    sharp = WeightedRetrieval(weights="softmax", temperature=1e-4).run(given).predictions
    assert sharp is not None
    assert (np.array(list("abc"))[sharp.predicted] == names[:, 0]).all()
