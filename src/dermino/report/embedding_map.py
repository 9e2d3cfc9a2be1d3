"""Maps of embeddings: what lies near what, before and after training (Extended Data Fig. 4, 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from markupsafe import Markup

from dermino.data.reference import locate
from dermino.errors import UserError
from dermino.evaluate.feature_cache import FeatureCache
from dermino.knowledge.groups import coarse_groups
from dermino.knowledge.taxonomy import Taxonomy
from dermino.report.results import Results
from dermino.report.runs import Run

Projection = Literal["t-SNE", "UMAP"]
MOST_IMAGES = 1500
_MOST_GROUPS = 12
_NO_GROUP = "no group"
_OTHER = "other groups"
_SIDE = 600.0
_MARGIN = 18.0
# Okabe and Ito's eight, then four of Paul Tol's muted ones; grey is kept for what has no group.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00",
    "#882255", "#117733", "#332288", "#999933", "#AA4499", "#44AA99",
)  # fmt: skip
_GREYS = {_OTHER: "#7d8794", _NO_GROUP: "#c9cfd7"}


@dataclass(frozen=True)
class EmbeddingMap:
    """Points of one set of embeddings.

    Parameters
    ----------
    title:
        What was embedded, and by what.
    note:
        How many points, and what their colour means.
    figures:
        The drawing of each projection.
    legend:
        (group, colour, points), the most frequent first.
    """

    title: str
    note: str
    figures: Mapping[Projection, Markup]
    legend: Sequence[tuple[str, str, int]]


def projections() -> tuple[Projection, ...]:
    """Return what can be drawn here: t-SNE, and UMAP where the package is installed."""
    return ("t-SNE", "UMAP") if find_spec("umap") else ("t-SNE",)


def project(vectors: np.ndarray, method: Projection, seed: int = 0) -> np.ndarray:
    """Lay vectors out in the plane by the cosines between them.

    Parameters
    ----------
    vectors:
        (N, D), at least four.
    method:
        t-SNE as scikit-learn's with perplexity 30, or UMAP with 15 neighbours, less where there are
        few vectors.
    seed:
        Of the layout.

    Returns
    -------
    (N, 2) float64.
    """
    if method == "t-SNE":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        layout = TSNE(2, perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    else:
        from umap import UMAP

        layout = UMAP(
            n_neighbors=min(15, len(vectors) - 1), metric="cosine", random_state=seed, n_jobs=1
        )
    return np.asarray(layout.fit_transform(vectors), dtype=np.float64)


def label_maps(runs: Sequence[Run]) -> list[EmbeddingMap]:
    """Draw the label embeddings that runs started from; one map for each taxonomy among them."""
    found: dict[str, tuple[Taxonomy, list[str]]] = {}
    for run in runs:
        if (run.folder / "taxonomy").is_dir():
            taxonomy = Taxonomy.read(run.folder / "taxonomy")
            found.setdefault(taxonomy.fingerprint, (taxonomy, []))[1].append(run.name)
    return [
        draw_map(
            taxonomy.embeddings,
            taxonomy.names,
            coarse_groups(taxonomy),
            f"Names of {len(taxonomy)} concepts, {taxonomy.text_encoder}",
            f"What {', '.join(names)} started from. A point is a concept; its colour is the group "
            "that a dataset's own columns give it.",
            named=True,
        )
        for taxonomy, names in found.values()
        if len(taxonomy) > 3
    ]


def image_maps(
    found: Results, cache: str | Path | None = None, file_names: bool = True
) -> list[EmbeddingMap]:
    """Draw the test images of every task as every encoder embeds them.

    Parameters
    ----------
    found:
        The results; only labelled tasks are drawn.
    cache:
        The feature cache of the evaluation. Encoders whose features it lacks are left out.
    file_names:
        Whether a point tells its image's file name beside the class.
    """
    features = FeatureCache(cache)
    maps = []
    for task in found.tasks:
        if not task.labelled:
            continue
        for encoder in found.encoders:
            answers = _answers(found, task.name, encoder.name)
            if answers is None or len(answers) < 4:
                continue
            vectors = _features(features, encoder.identity, Path(task.root), answers["image"])
            if vectors is None:
                continue
            maps.append(
                draw_map(
                    vectors,
                    [
                        f"{row.target}: {row.image}" if file_names else str(row.target)
                        for row in answers.itertuples()
                    ],
                    answers["target"].astype(str).tolist(),
                    f"{task.title or task.name}, {encoder.name}",
                    f"{len(answers):,} test images as the trained encoder embeds them; the colour "
                    "is the class.",
                )
            )
    return maps


def _answers(found: Results, task: str, encoder: str) -> pd.DataFrame | None:
    """Return image and target of at most 1,500 test images, the same ones for every encoder."""
    for protocol in found.protocols:
        frame = found.predictions(task, encoder, protocol.name)
        if frame is not None and {"image", "target"} <= set(frame.columns):
            answers = frame[["image", "target"]].drop_duplicates("image").sort_values("image")
            return answers.sample(min(len(answers), MOST_IMAGES), random_state=0)
    return None


def _features(
    cache: FeatureCache, identity: str, root: Path, images: Iterable[str]
) -> np.ndarray | None:
    try:
        return cache.read(identity, cache.digests([locate(root, image) for image in images]))
    except (KeyError, OSError, UserError):
        return None


def draw_map(
    vectors: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str],
    title: str,
    note: str,
    named: bool = False,
) -> EmbeddingMap:
    """Draw one set of embeddings by every projection there is.

    Parameters
    ----------
    vectors:
        (N, D).
    names:
        What each point says when pointed at.
    groups:
        What each point is coloured by; "" for none.
    title, note:
        See :class:`EmbeddingMap`.
    named:
        Write the names beside the points once the map is enlarged.
    """
    counted = Counter(group for group in groups if group)
    kept = [group for group, _ in counted.most_common(_MOST_GROUPS)]
    colours = dict(zip(kept, _COLOURS, strict=False))
    shown = [group if group in colours else _OTHER if group else _NO_GROUP for group in groups]
    sizes = Counter(shown)
    legend = [
        (group, colours.get(group, _GREYS.get(group, "")), sizes[group])
        for group in (*kept, _OTHER, _NO_GROUP)
        if sizes[group]
    ]
    figures = {
        method: _svg(project(vectors, method), names, shown, legend, f"{title}, {method}", named)
        for method in projections()
    }
    return EmbeddingMap(title, note, figures, legend)


def _svg(
    points: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str],
    legend: Sequence[tuple[str, str, int]],
    alt: str,
    named: bool,
) -> Markup:
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (_SIDE - 2 * _MARGIN) / max(float((high - low).max()), 1e-12)
    placed = _SIDE / 2 + (points - (low + high) / 2) * scale
    parts = []
    # Grey first, so that it hides nothing.
    for group, colour, _ in reversed(legend):
        rows = [row for row, of in enumerate(groups) if of == group]
        parts.append(f'<g fill="{colour}">')
        for row in rows:
            x, y = placed[row]
            name = escape(names[row])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}"><title>{name}</title></circle>')
            if named:
                parts.append(f'<text x="{x:.1f}" y="{y:.1f}">{name}</text>')
        parts.append("</g>")
    side = f"{_SIDE:g}"
    return Markup(
        f'<svg class="map" viewBox="0 0 {side} {side}" role="img" aria-label="{escape(alt)}">'
        + "".join(parts)
        + "</svg>"
    )
