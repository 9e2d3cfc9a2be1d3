"""Metrics of captions, as the DermINO authors compute them and as the COCO evaluation does.

The two share names and differ in tokens, in synonyms and in what is pooled, so their values must
not be compared with each other: all of COCO's are called ``coco_...``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from dermino.evaluate.caption.bleu import coco_bleu, nltk_bleu
from dermino.evaluate.caption.java import JavaFailed, java, meteor_statistics, tokenise
from dermino.evaluate.caption.meteor import pooled_meteor
from dermino.evaluate.pooled import Aggregate, PooledScore, Score

_ORDERS = (1, 2, 4)
_ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
_COCO = {
    **{f"coco_bleu_{order}": f"BLEU-{order} (COCO)" for order in _ORDERS},
    "coco_meteor": "METEOR (COCO)",
    "coco_cider": "CIDEr (COCO)",
    "coco_rouge_l": "ROUGE-L (COCO)",
}
_NLTK_DATA = (
    "it needs data of NLTK's which are not here: python -m nltk.downloader wordnet punkt_tab"
)
_FIXED_WEIGHTS = "words weigh as in the whole test set, also in the bootstrap"

References = Sequence[Sequence[str]]


def caption_scores(references: References, generated: Sequence[str]) -> dict[str, Score]:
    """Judge captions by every metric.

    Parameters
    ----------
    references:
        One or more captions an image.
    generated:
        The caption to be judged of each image.

    Returns
    -------
    dict
        By their names in the results; one that cannot be computed here is NaN, with the reason.
    """
    return {**_as_the_authors(references, generated), **_as_coco(references, generated)}


@cache
def missing_tools() -> Mapping[str, str]:
    """Return the metrics that will be NaN on this machine, and why."""
    missing = {}
    try:
        _probe_nltk()
    except LookupError:
        missing["METEOR"] = _NLTK_DATA
    except ImportError:
        missing["METEOR"] = "it needs NLTK: pip install 'dermino[captions]'"
    try:
        java()
    except JavaFailed as error:
        missing["COCO's metrics"] = str(error)
    return MappingProxyType(missing)


def _as_the_authors(references: References, generated: Sequence[str]) -> dict[str, Score]:
    """NLTK's BLEU and METEOR, Google's ROUGE with stems, CIDEr of words split at blanks."""
    from rouge_score.rouge_scorer import RougeScorer

    scores: dict[str, Score] = {
        f"bleu_{order}": nltk_bleu(f"BLEU-{order}", references, generated, order)
        for order in _ORDERS
    }
    scores["meteor"] = _nltk_meteor(references, generated)
    scores["cider"] = _cider("CIDEr", references, generated)
    scorer = RougeScorer(list(_ROUGE.values()), use_stemmer=True)
    judged = [
        scorer.score_multi(list(texts), text)
        for texts, text in zip(references, generated, strict=True)
    ]
    for name, kind in _ROUGE.items():
        values = np.array([found[kind].fmeasure for found in judged])
        scores[name] = PooledScore.mean(f"ROUGE-{kind.removeprefix('rouge')}", values)
    return scores


def _as_coco(references: References, generated: Sequence[str]) -> dict[str, Score]:
    from pycocoevalcap.rouge.rouge import Rouge

    counts = np.cumsum([len(texts) for texts in references])[:-1]
    try:
        flat = tokenise([*(text for texts in references for text in texts), *generated])
        split = np.split(np.array(flat[: -len(generated)], object), counts)
        references, generated = [part.tolist() for part in split], flat[-len(generated) :]
    except JavaFailed as error:
        return {name: _undefined(title, str(error)) for name, title in _COCO.items()}
    rouge = Rouge()
    longest = [
        rouge.calc_score([text], list(texts))
        for texts, text in zip(references, generated, strict=True)
    ]
    makers: dict[str, Callable[[str], Score]] = {
        "coco_meteor": lambda title: pooled_meteor(title, meteor_statistics(references, generated)),
        "coco_cider": lambda title: _cider(title, references, generated),
        "coco_rouge_l": lambda title: PooledScore.mean(title, np.array(longest)),
    }
    scores: dict[str, Score] = {}
    for name, title in _COCO.items():
        try:
            if name in makers:
                scores[name] = makers[name](title)
            else:
                order = int(name.rpartition("_")[2])
                scores[name] = coco_bleu(title, references, generated, order)
        except JavaFailed as error:
            scores[name] = _undefined(title, str(error))
    return scores


def _nltk_meteor(references: References, generated: Sequence[str]) -> Score:
    from nltk.tokenize import word_tokenize
    from nltk.translate.meteor_score import meteor_score

    try:
        _probe_nltk()
    except LookupError:
        return _undefined("METEOR", _NLTK_DATA)
    values = [
        meteor_score([word_tokenize(reference) for reference in texts], word_tokenize(text))
        for texts, text in zip(references, generated, strict=True)
    ]
    return PooledScore.mean("METEOR", np.array(values))


def _probe_nltk() -> None:
    """Raise LookupError where NLTK lacks its word lists; it never fetches them by itself."""
    from nltk.tokenize import word_tokenize
    from nltk.translate.meteor_score import meteor_score

    # Words that differ are looked up in WordNet; equal ones would not be.
    meteor_score([word_tokenize("A nevus.")], word_tokenize("One mole."))


def _cider(title: str, references: References, generated: Sequence[str]) -> Score:
    from pycocoevalcap.cider.cider import Cider

    if len(generated) < 2:
        return _undefined(
            title, "it weighs words by their rarity among test captions, and there is one caption"
        )
    _, values = Cider().compute_score(
        {row: list(texts) for row, texts in enumerate(references)},
        {row: [text] for row, text in enumerate(generated)},
    )
    score = PooledScore.mean(title, values)
    return PooledScore(title, score.statistics, score.combine, _FIXED_WEIGHTS, score.per_image)


def _undefined(title: str, reason: str) -> Aggregate:
    return Aggregate(title, float("nan"), note=reason)
