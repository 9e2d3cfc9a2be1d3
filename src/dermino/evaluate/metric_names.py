"""How people call a metric, which way is better, and which ones stand for a task."""

from __future__ import annotations

from collections.abc import Sequence

from dermino.evaluate.kinds import KINDS

# Metrics that protocols and analyses bring themselves.
_TITLES = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "hd95": "HD95 (pixels)",
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "cider": "CIDEr",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "coco_bleu_1": "BLEU-1 (COCO)",
    "coco_bleu_2": "BLEU-2 (COCO)",
    "coco_bleu_4": "BLEU-4 (COCO)",
    "coco_meteor": "METEOR (COCO)",
    "coco_cider": "CIDEr (COCO)",
    "coco_rouge_l": "ROUGE-L (COCO)",
    "dice_dataset": "Dice of all pixels",
    "jaccard_dataset": "Jaccard of all pixels",
    "dice_official": "Dice (authors' scripts)",
    "jaccard_official": "Jaccard (authors' scripts)",
    "adaptive_ece": "Expected calibration error, equal bins",
    "mce": "Maximum calibration error",
    "nll": "Negative log likelihood",
    "ece": "Expected calibration error",
    "brier": "Brier score",
}
_PREFIXES = {
    "mean_": ", mean of draws",
    "scaled_": ", after temperature scaling",
    "positive_": ", positive classes against the rest",
}
_HEADLINES = {
    "classification": ("macro_auroc", "macro_f1"),
    "ordinal": ("quadratic_weighted_kappa", "macro_auroc"),
    "multilabel": ("macro_auroc", "macro_f1"),
    "regression": ("mean_absolute_error", "r2"),
    "segmentation": ("dice", "jaccard"),
    "caption": ("bleu_1", "bleu_2", "meteor", "cider", "rouge_1", "rouge_l"),
}
_SMALLER_IS_BETTER = {"error", "hd95", "ece", "mce", "nll", "brier", "gap", "difference", "size"}


def metric_title(name: str) -> str:
    """Return a metric's name as prose."""
    if name in _TITLES:
        return _TITLES[name]
    for kind in KINDS.values():
        if name in kind.metrics:
            return kind.metrics[name].title
    for prefix, said in _PREFIXES.items():
        if name.startswith(prefix):
            return f"{metric_title(name.removeprefix(prefix))}{said}"
    if name.endswith("_gap"):
        return f"{metric_title(name.removesuffix('_gap'))}, gap"
    return name.replace("_", " ").capitalize()


def smaller_is_better(name: str) -> bool:
    """Whether a metric counts errors."""
    return not _SMALLER_IS_BETTER.isdisjoint(name.split("_"))


def headline_metrics(kind: str, asked: Sequence[str], present: Sequence[str]) -> list[str]:
    """Choose the metrics that stand for a task.

    Parameters
    ----------
    kind:
        The task's.
    asked:
        Those that its definition names.
    present:
        Those that there are results of, in their order.

    Returns
    -------
    list of str
        Those asked for, else the usual ones of the kind, else the first two.
    """
    for wanted in (asked, _HEADLINES.get(kind, ())):
        if found := [name for name in wanted if name in present]:
            return found
    return list(present[:2])


def in_reading_order(kind: str, headlines: Sequence[str], present: Sequence[str]) -> list[str]:
    """Return the metrics as a table shows them: headlines, the kind's own, the others."""
    own = KINDS[kind].metrics if kind in KINDS else {}
    return list(dict.fromkeys([*headlines, *(n for n in own if n in present), *present]))
