"""Bootstrap of three metrics against the loop over scikit-learn, on the same replicates.

Run: python benchmarks/bootstrap.py [--n 8289] [--classes 9] [--replicates 1000] [--loop 50]
The loop is timed on a part of the replicates and scaled up; all of them with --loop 1000.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.classification import CLASSIFICATION_METRICS, Predictions

NAMES = ("macro_auroc", "macro_f1", "balanced_accuracy")


def predictions(n: int, n_classes: int, seed: int = 0) -> Predictions:
    """Make imbalanced targets and softmax scores that know something about them."""
    random = np.random.default_rng(seed)
    share = 0.6 ** np.arange(n_classes)
    targets = random.choice(n_classes, n, p=share / share.sum())
    logits = random.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[targets]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(targets, scores.argmax(1), scores, [str(c) for c in range(n_classes)])


def sklearn_loop(sample: Predictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    rows: list[tuple[float, float, float]] = []
    for counts in weights.T.astype(int):
        drawn = np.repeat(np.arange(len(sample)), counts)
        targets, predicted = sample.targets[drawn], sample.predicted[drawn]
        rows.append(
            (
                roc_auc_score(targets, sample.scores[drawn], multi_class="ovr"),
                f1_score(targets, predicted, average="macro"),
                balanced_accuracy_score(targets, predicted),
            )
        )
    return dict(zip(NAMES, np.array(rows).T, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=8289)
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=50)
    options = parser.parse_args()

    bootstrap = Bootstrap(replicates=options.replicates)
    metrics = {name: CLASSIFICATION_METRICS[name] for name in NAMES}
    seconds = []
    for _ in range(3):
        sample = predictions(options.n, options.classes)  # anew: nothing prepared is reused
        start = time.perf_counter()
        replicates = bootstrap.replicate(metrics, sample)
        seconds.append(time.perf_counter() - start)
    ours = min(seconds)
    start = time.perf_counter()
    Bootstrap(replicates=options.replicates, method="bca").estimate(metrics, sample)
    with_jackknife = time.perf_counter() - start

    weights = np.concatenate(list(bootstrap.weights(options.n)), axis=1)[:, : options.loop]
    start = time.perf_counter()
    loop = sklearn_loop(sample, weights)
    theirs = (time.perf_counter() - start) / weights.shape[1] * options.replicates

    difference = max(
        float(np.abs(replicates[name][: weights.shape[1]] - loop[name]).max()) for name in NAMES
    )
    print(f"{options.replicates} replicates, n={options.n}, {options.classes} classes")
    print(f"dermino       {ours:8.3f} s (best of 3; {', '.join(f'{s:.3f}' for s in seconds)})")
    print(f"  with BCa    {with_jackknife:8.3f} s (with a jackknife of {options.n} images)")
    print(f"scikit-learn  {theirs:8.3f} s (from {weights.shape[1]} replicates)")
    print(f"ratio         {theirs / ours:8.0f}")
    print(f"largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
