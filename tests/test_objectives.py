"""Each objective against a float64 NumPy computation of the paper's equation."""

import numpy as np
import pytest
import torch

from dermino.pretrain.objectives.alignment import alignment_loss
from dermino.pretrain.objectives.centering import SoftmaxCentering
from dermino.pretrain.objectives.contrastive import contrastive_loss
from dermino.pretrain.objectives.image import image_loss
from dermino.pretrain.objectives.knowledge import DiseasePrototypes, knowledge_loss
from dermino.pretrain.objectives.koleo import koleo_loss
from dermino.pretrain.objectives.patch import patch_loss
from dermino.pretrain.objectives.reconstruction import patchify, reconstruction_loss
from dermino.pretrain.objectives.sinkhorn import sinkhorn_knopp
from dermino.pretrain.objectives.swapped import swapped_prediction_loss

rng = np.random.default_rng(0)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(x))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float32)


@pytest.mark.parametrize(("batch", "spread"), [(12, 1), (12, 50), (1, 1), (1, 50)])
def test_sinkhorn_knopp_is_the_alternating_normalisation(batch: int, spread: float) -> None:
    logits = rng.normal(size=(batch, 7)) * spread
    log_q = logits / 0.07
    for _ in range(3):  # Logarithms, for exp(logits / 0.07) soon overflows even here.
        log_q -= np.logaddexp.reduce(log_q, axis=0, keepdims=True)
        log_q -= np.logaddexp.reduce(log_q, axis=1, keepdims=True)
    ours = sinkhorn_knopp(tensor(logits), 0.07)
    # Scores around 700 have no more digits than this in float32.
    np.testing.assert_allclose(ours.numpy(), np.exp(log_q), rtol=0, atol=1e-6 * spread)
    np.testing.assert_allclose(ours.sum(dim=1).numpy(), 1, atol=1e-6)


@pytest.mark.parametrize("pairing", ["cross", "same"])
def test_image_loss_is_equations_1_and_2(pairing: str) -> None:
    n_g, n_l, batch, k = 2, 3, 5, 11
    student_global = rng.normal(size=(n_g, batch, k))
    student_local = rng.normal(size=(n_l, batch, k))
    teacher = softmax(rng.normal(size=(n_g, batch, k)))
    log_global, log_local = log_softmax(student_global / 0.1), log_softmax(student_local / 0.1)
    expected_global = expected_local = 0.0
    for b in range(batch):
        for i in range(n_g):
            other = i if pairing == "same" else 1 - i
            expected_global -= (teacher[i, b] * log_global[other, b]).sum() / batch
            for n in range(n_l):
                expected_local -= (teacher[i, b] * log_local[n, b]).sum() / batch
    expected_global /= n_g * (1 + n_l)
    expected_local /= n_g * (1 + n_l)
    ours = image_loss(
        tensor(student_global), tensor(student_local), tensor(teacher), pairing=pairing
    )
    np.testing.assert_allclose([float(x) for x in ours], [expected_global, expected_local], 1e-6)


def test_patch_loss_is_equation_4_over_masked_patches() -> None:
    masks = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    student = rng.normal(size=(4, 4, 9))
    teacher = softmax(rng.normal(size=(4, 4, 9)))
    log_student = log_softmax(student / 0.1)
    expected = 0.0
    for i in range(4):
        inner = sum((teacher[i, j] * log_student[i, j]).sum() for j in range(4) if masks[i, j])
        expected -= inner / max(masks[i].sum(), 1)
    ours = patch_loss(tensor(student[masks]), tensor(teacher[masks]), torch.tensor(masks))
    np.testing.assert_allclose(float(ours), expected / 4, rtol=1e-6)


def test_distillation_takes_any_floating_type_and_keeps_float64() -> None:
    student, teacher = rng.normal(size=(6, 9)), softmax(rng.normal(size=(6, 9)))
    masks = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    ours = patch_loss(torch.tensor(student), torch.tensor(teacher), masks)
    entropy = -(teacher * log_softmax(student / 0.1)).sum(axis=1)
    expected = (entropy * [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3, 1]).sum() / 4
    assert ours.item() == pytest.approx(expected, rel=1e-12)
    half = [torch.tensor(x).bfloat16().view(2, 3, 9) for x in (student, teacher)]
    exact = [x.double() for x in half]
    assert image_loss(half[0], None, half[1])[0].dtype == torch.float32
    mixed, promoted = (image_loss(half[0], half[0], t)[1] for t in (half[1], half[1].float()))
    assert torch.equal(mixed, promoted)
    for pair in (half, exact):  # No local crop counts as one pair, as in DINOv2: 2 + 1.
        log_student = log_softmax(exact[0].numpy() / 0.1)
        expected = -(exact[1].numpy()[::-1] * log_student).sum(axis=2).mean(axis=1).sum() / 3
        assert image_loss(pair[0], None, pair[1])[0].item() == pytest.approx(expected, rel=1e-6)


def test_no_loss_loses_digits_under_autocast() -> None:
    scores, features = torch.randn(2, 6, 500), torch.randn(6, 500)
    targets = sinkhorn_knopp(torch.randn(12, 500), 0.07).view(2, 6, 500)
    masks, labels = torch.eye(6, dtype=torch.bool), (torch.rand(6, 500) < 0.5).float()
    losses = [
        lambda: image_loss(scores, scores, targets)[1],
        lambda: patch_loss(scores[0], targets[0], masks),
        lambda: knowledge_loss(features, labels, 1 - labels),
        lambda: koleo_loss(features),
        lambda: contrastive_loss(features, scores[0]),
    ]
    for loss in losses:
        with torch.autocast("cpu", torch.bfloat16):
            mixed = loss()
        assert torch.equal(mixed, loss())


def koleo_numpy(features: np.ndarray) -> float:
    x = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-8)
    dots = x @ x.T
    np.fill_diagonal(dots, -1)
    difference = x - x[dots.argmax(axis=1)] + 1e-8
    return float(-np.log(np.linalg.norm(difference, axis=1) + 1e-8).mean())


def test_koleo_is_the_nearest_neighbour_entropy() -> None:
    features = rng.normal(size=(8, 6))
    np.testing.assert_allclose(float(koleo_loss(tensor(features))), koleo_numpy(features), 1e-6)


def test_koleo_stays_finite_on_duplicates_single_rows_and_bfloat16() -> None:
    features = rng.normal(size=(6, 4))
    features[1] = features[0]
    duplicated = tensor(features).requires_grad_()
    loss = koleo_loss(duplicated)
    loss.backward()
    np.testing.assert_allclose(float(loss.detach()), koleo_numpy(features), rtol=1e-5)
    assert torch.isfinite(duplicated.grad).all()
    assert float(koleo_loss(tensor(features[:1]))) == 0.0
    half = tensor(features[2:]).bfloat16()
    np.testing.assert_allclose(
        float(koleo_loss(half)), koleo_numpy(half.double().numpy()), rtol=1e-5
    )


@pytest.mark.parametrize("reduction", ["labelled_crops", "all_crops"])
def test_knowledge_loss_is_equations_5_and_6(reduction: str) -> None:
    tokens, prototypes = rng.normal(size=(5, 6)), rng.normal(size=(4, 6))
    y = rng.integers(0, 2, size=(5, 4))
    n = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    p = 1 / (1 + np.exp(-tokens @ prototypes.T))
    total = 0.0
    for i in range(5):
        if n[i].sum():
            terms = y[i] * np.log(p[i]) + (1 - y[i]) * np.log(1 - p[i])
            total -= (n[i] * terms).sum() / n[i].sum()
    expected = total / (3 if reduction == "labelled_crops" else 5)
    logits = DiseasePrototypes(tensor(prototypes))(tensor(tokens))
    ours = knowledge_loss(logits.detach(), torch.tensor(y), torch.tensor(n), reduction)
    np.testing.assert_allclose(ours.item(), expected, rtol=1e-6)


def test_knowledge_loss_without_a_label_is_a_zero_that_can_be_differentiated() -> None:
    prototypes = DiseasePrototypes(torch.randn(3, 4))
    nothing = torch.zeros(2, 3)
    loss = knowledge_loss(prototypes(torch.randn(2, 4)), nothing, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(prototypes.weight.grad, torch.zeros(3, 4))


def test_prototypes_can_be_frozen_and_biased_as_in_the_official_code() -> None:
    official = DiseasePrototypes(torch.randn(3, 4), learnable=False, bias=True)
    assert [p.requires_grad for p in official.parameters()] == [False, False]
    assert DiseasePrototypes(torch.randn(3, 4)).bias is None


def test_softmax_centering_applies_the_moving_mean_one_call_later() -> None:
    centering = SoftmaxCentering(3)
    first, second = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    ours = [centering(tensor(logits), 0.05).numpy() for logits in (first, second)]
    np.testing.assert_allclose(ours[0], softmax(first / 0.05), rtol=0, atol=1e-6)
    center = 0.1 * first.mean(axis=0)
    np.testing.assert_allclose(ours[1], softmax((second - center) / 0.05), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        centering.center[0].numpy(), 0.9 * center + 0.1 * second.mean(axis=0), rtol=0, atol=1e-6
    )
    moved = centering.center.clone()
    assert centering(torch.empty(0, 3), 0.05).shape == (0, 3)
    assert torch.equal(centering.center, moved)
    assert centering.double()(torch.tensor(first), 0.05).dtype == torch.float64


@pytest.mark.parametrize("normalise", [True, False])
def test_reconstruction_is_the_squared_error_of_normalised_patches(normalise: bool) -> None:
    images, predicted = rng.normal(size=(2, 3, 8, 12)), rng.normal(size=(2, 6, 48))
    expected = 0.0
    for image in range(2):
        for row in range(2):
            for column in range(3):
                box = images[image, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].ravel()
                if normalise:
                    box = (box - box.mean()) / np.sqrt(box.var(ddof=1) + 1e-6)
                expected += ((predicted[image, 3 * row + column] - box) ** 2).mean() / 12
    ours = reconstruction_loss(tensor(predicted), patchify(tensor(images), 4), normalise)
    np.testing.assert_allclose(ours.item(), expected, rtol=1e-6)


def test_contrast_is_infonce_over_the_batch_scaled_by_two_tau() -> None:
    queries, keys = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    logits = unit(queries) @ unit(keys).T / 0.2
    expected = -2 * 0.2 * np.diag(log_softmax(logits)).mean()
    ours = contrastive_loss(tensor(queries), tensor(keys), 0.2)
    np.testing.assert_allclose(ours.item(), expected, rtol=1e-6)


def test_swapped_prediction_pairs_each_code_with_all_other_views() -> None:
    scores = rng.normal(size=(4, 3, 7))
    codes = np.exp(log_softmax(rng.normal(size=(2, 3, 7))))
    logs = log_softmax(scores / 0.1)
    expected = 0.0
    for i in range(2):
        others = [-(codes[i] * logs[v]).sum(axis=1).mean() for v in range(4) if v != i]
        expected += sum(others) / len(others) / 2
    ours = swapped_prediction_loss(tensor(scores), tensor(codes), 0.1)
    np.testing.assert_allclose(ours.item(), expected, rtol=1e-6)


def test_alignment_is_the_mean_cosine_distance() -> None:
    latents, features = rng.normal(size=(2, 5, 6)), rng.normal(size=(2, 5, 6))
    expected = (1 - (unit(latents) * unit(features)).sum(axis=-1)).mean()
    ours = alignment_loss(tensor(latents), tensor(features))
    np.testing.assert_allclose(ours.item(), expected, rtol=1e-6)
