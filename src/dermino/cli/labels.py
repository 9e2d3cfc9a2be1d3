"""``dermino labels``: from the datasets' label names to shared disease concepts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dermino.knowledge.taxonomy import Taxonomy

app = typer.Typer(
    no_args_is_help=True, help="Unify the labels of several datasets into shared concepts."
)
_SHOWN = 20


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder to write the taxonomy to.")],
    manifests: Annotated[
        list[Path] | None,
        typer.Argument(help="Manifests, in any order; none needed with --public."),
    ] = None,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Start from the shipped, reviewed labels of public datasets; the manifests' "
            "labels join them.",
        ),
    ] = False,
    text_encoder: Annotated[
        str,
        typer.Option(
            help="coder, coder-official, coder-eng, sapbert, sapbert-mean, gte-small, minilm, "
            "char-ngrams, hf:ID or a folder; auto takes the first of coder, sapbert, gte-small, "
            "minilm and char-ngrams that is on this machine."
        ),
    ] = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Smallest cosine between names of one concept. Default: calibrated for the text "
            "encoder on known synonyms and near misses."
        ),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            help="A review table (.csv or .xlsx) whose column 'concept' a person has edited: "
            "rename, split, merge, or 'exclude'."
        ),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="cls, mean or pooler; for hf:ID and folders.")
    ] = None,
) -> None:
    """Merge the labels of all manifests and write TAXONOMY with a review table in it.

    Then read and correct TAXONOMY/review.csv in a spreadsheet and build again with --review.
    """
    from dermino.errors import UserError
    from dermino.files import writable_folder
    from dermino.knowledge.build import build_taxonomy
    from dermino.knowledge.review import REVIEW, refuse_to_lose_review, review_table, write_review

    if not manifests and not public:
        raise UserError("No manifest was given.", "Name manifests, or add --public.")
    writable_folder(out)
    if review is None:
        refuse_to_lose_review(out)
    taxonomy = build_taxonomy(manifests or (), text_encoder, threshold, review, pooling, public)
    taxonomy.write(out)
    write_review(review_table(taxonomy), out / REVIEW)
    _summarise(taxonomy)
    typer.echo(f"Read and correct {out / REVIEW}, then build again with --review {out / REVIEW}")


@app.command()
def show(
    taxonomy: Annotated[
        Path,
        typer.Argument(
            help="A folder written by 'labels build', or public: the shipped taxonomy of public "
            "datasets."
        ),
    ],
    dataset: Annotated[str | None, typer.Option(help="Only this dataset's labels.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the review table to this .csv or .xlsx file.")
    ] = None,
) -> None:
    """Show the concepts of a taxonomy and the labels behind each."""
    from dermino.errors import unknown
    from dermino.files import writable_file
    from dermino.knowledge.load import load_taxonomy
    from dermino.knowledge.review import review_table, write_review

    read = load_taxonomy(taxonomy)
    if dataset is not None and dataset not in read.labels:
        raise unknown("dataset", dataset, read.datasets)
    table = review_table(read)
    if dataset is not None:
        table = table[table["dataset"] == dataset]
    if export is not None:
        write_review(table, writable_file(export))
        typer.echo(f"Wrote {export}")
        return
    for concept, rows in table.groupby("concept"):
        labels = ", ".join(
            f"{row.label} ({row.dataset}, {row.images})" for row in rows.itertuples()
        )
        typer.echo(f"{concept}: {labels}")
    _summarise(read)


def _summarise(taxonomy: Taxonomy) -> None:
    from rich.table import Table

    from dermino.progress import console

    table = Table("dataset", "labels", "concepts", "left out", "annotations")
    for row, dataset in enumerate(taxonomy.datasets):
        entries = taxonomy.labels[dataset].values()
        left_out = sum(entry.concept is None for entry in entries)
        annotations = sum(entry.images for entry in entries)
        known = int(taxonomy.known[row].sum())
        table.add_row(dataset, *(str(n) for n in (len(entries), known, left_out, annotations)))
    console.print(table)
    doubtful = sorted(taxonomy.merges, key=lambda merge: (merge.cosine, merge.name))
    for merge in doubtful[:_SHOWN]:
        line = f"merged {merge.name} into {merge.concept}, cosine {merge.cosine:.4f}"
        console.print(line, markup=False, soft_wrap=True)
    if len(doubtful) > _SHOWN:
        console.print(f"and {len(doubtful) - _SHOWN} merges of higher cosine")
    labels = sum(len(entries) for entries in taxonomy.labels.values())
    typer.echo(
        f"{labels} labels, {len(taxonomy)} concepts; text encoder {taxonomy.text_encoder}, "
        f"threshold {taxonomy.threshold:.2f}"
    )
