"""``dermino data``: from folders and tables to manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dermino.cli import audit, download, sources

if TYPE_CHECKING:
    from dermino.data.findings import Finding
    from dermino.data.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Download, import, check, split and generate images.")
app.command("list")(sources.list_sources)
app.command("template")(sources.template_data)
app.command("download")(download.download_data)
app.command("audit")(audit.audit_data)

Manifests = Annotated[list[Path], typer.Argument(help="Manifests: .parquet or .csv files.")]


@app.command("import")
def import_data(
    source: Annotated[str, typer.Argument(help="A name from: dermino data list")],
    path: Annotated[Path, typer.Argument(help="The folder or file, as its publisher ships it.")],
    out: Annotated[Path, typer.Option(help="The manifest to write, .parquet or .csv.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the source, such as classes=yes or label_column=diagnosis.",
        ),
    ] = None,
) -> None:
    """Read a dataset into a manifest; what is missing or odd goes to OUT.findings.csv.

    dermino data import ham10000 HAM10000/ --out ham10000.parquet

    dermino data import csv cases.csv --set image_root=photos label_column=diagnosis --out c.parquet
    """
    from dermino.data.findings import write_findings
    from dermino.data.manifest import writable_manifest
    from dermino.data.source import import_source

    writable_manifest(out, inputs=[path])
    imported = import_source(source, path, **_options(settings or []))
    imported.manifest.write(out)
    findings_path = out.with_suffix(".findings.csv")
    if imported.findings:
        write_findings(imported.findings, findings_path)
    else:
        findings_path.unlink(missing_ok=True)
    _print_summary(imported.manifest)
    _print_findings(imported.findings, findings_path)
    typer.echo(f"Wrote {out}")


@app.command("check")
def check_data(
    manifest: Manifests,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; beside each manifest by default."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; all processors by default.")
    ] = None,
) -> None:
    """Read every picture once; unreadable ones are set aside, nothing is rewritten.

    Of each NAME.parquet come NAME.findings.csv, NAME.readable.parquet and, if any,
    NAME.unreadable.parquet.
    """
    from dermino.data.check import check
    from dermino.data.manifest import Manifest
    from dermino.errors import UserError

    bases = [(out or path.parent) / path.stem for path in manifest]
    if len(set(bases)) < len(bases):
        raise UserError(
            "Results of manifests with one name would overwrite each other.",
            "Check them one by one, each with its own --out.",
        )
    for path, base in zip(manifest, bases, strict=True):
        result = check(Manifest.read(path), out=base, workers=workers)
        _print_findings(result.findings, Path(f"{base}.findings.csv"))
        typer.echo(
            f"{path}: {len(result.readable):,} readable, {len(result.unreadable):,} unreadable. "
            f"Wrote {base}.readable.parquet"
        )


@app.command("split")
def split_data(
    manifest: Annotated[Path, typer.Argument(help="The manifest to divide.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; the manifest itself by default.")
    ] = None,
    train: Annotated[float, typer.Option(help="Share of the training images.")] = 0.5,
    val: Annotated[float, typer.Option(help="Share of the validation images.")] = 0.0,
    test: Annotated[float, typer.Option(help="Share of the test images.")] = 0.5,
    stratify: Annotated[
        str, typer.Option(help="Column whose values keep their shares, or 'none'.")
    ] = "labels",
    group: Annotated[
        str, typer.Option(help="Column whose values stay together, 'auto' or 'none'.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another split.")] = 0,
) -> None:
    """Write train, val and test into the manifest: stratified, no patient or lesion divided."""
    import pandas as pd

    from dermino.data.manifest import Manifest, writable_manifest
    from dermino.data.split import split

    target = writable_manifest(out or manifest)
    divided = split(
        Manifest.read(manifest),
        {"train": train, "val": val, "test": test},
        stratify=None if stratify == "none" else stratify,
        group=None if group == "none" else group,
        seed=seed,
    )
    divided.write(target)
    frame = divided.table.select(["labels", "split"]).to_pandas().explode("labels")
    counts = pd.crosstab(frame["labels"].fillna("(unlabelled)"), frame["split"])
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
    rows = [(label, *map(str, values)) for label, *values in counts.head(30).itertuples()]
    _print_table(["label", *map(str, counts.columns)], rows)
    if len(counts) > len(rows):
        typer.echo(f"and {len(counts) - len(rows)} rarer labels")
    sizes = pd.Series(divided.column("split")).value_counts()
    typer.echo(", ".join(f"{name}: {count:,}" for name, count in sizes.items()))
    typer.echo(f"Wrote {target}")


@app.command("shard")
def shard_data(
    manifest: Manifests,
    out: Annotated[str, typer.Option(help="Folder or fsspec URL for the shards.")],
    shard_size: Annotated[
        str, typer.Option(help="A shard is closed when it has as many bytes.")
    ] = "1GB",
    max_side: Annotated[
        int | None,
        typer.Option(min=32, help="Reduce pictures with a longer side than this many pixels."),
    ] = None,
    manifest_file: Annotated[
        Path | None,
        typer.Option(help="The manifest of the shards; OUT/manifest.parquet by default."),
    ] = None,
) -> None:
    """Pack images into WebDataset shards, for disks and networks that dislike small files.

    The same command goes on where it was stopped. Train on the manifest that it writes.

    dermino data shard ham10000.parquet --out shards/

    dermino data shard a.parquet b.parquet --out s3://bucket/skin --manifest-file skin.parquet
    """
    from dermino.data.manifest import read_manifests
    from dermino.data.shards import shard

    sharded = shard(read_manifests(manifest), out, shard_size, max_side, manifest_file)
    _print_summary(sharded)
    typer.echo(f"Wrote {out}")


@app.command("show")
def show_data(manifest: Manifests) -> None:
    """Show what manifests hold: datasets, licences, labels and which columns are filled."""
    from dermino.data.manifest import read_manifests

    joined = read_manifests(manifest)
    _print_summary(joined)
    for name, info in joined.sources.items():
        notes = [info.licence, info.citation, "generated images" if info.synthetic else ""]
        typer.echo(f"{name}: {'; '.join(note for note in notes if note) or 'nothing known'}")
    labels = joined.frame[["dataset", "labels"]].explode("labels").dropna()
    counts = labels.value_counts()
    common = counts.head(30).reset_index(name="images").itertuples(index=False)
    rows = [(dataset, label, f"{count:,}") for dataset, label, count in common]
    _print_table(["dataset", "label", "images"], rows)
    if len(counts) > 30:
        typer.echo(f"and {len(counts) - 30} rarer labels")
    filled = {
        name: len(joined) - joined.table[name].null_count for name in joined.table.column_names
    }
    typer.echo("Columns: " + ", ".join(f"{name} {count:,}" for name, count in filled.items()))


@app.command("generate")
def generate_data(
    out: Annotated[Path, typer.Option(help="Folder for the images and their manifest.")],
    n: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1000,
    size: Annotated[int, typer.Option(min=32, help="Side of the images in pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; all processors by default.")
    ] = None,
    labelled: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images that carry labels.")
    ] = 1.0,
) -> None:
    """Draw artificial skin images, for demonstrations and tests only, never for science."""
    from dermino.data.generate import generate

    manifest = generate(out, n=n, size=size, seed=seed, workers=workers, labelled=labelled)
    _print_summary(manifest)
    typer.echo(f"Wrote {out}")


def _options(settings: Sequence[str]) -> dict[str, Any]:
    from dermino.errors import UserError

    options: dict[str, Any] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key:
            raise UserError(f"Cannot read --set '{setting}'.", "Write it as key=value.")
        flags = {"true": True, "false": False}
        options[key.strip().replace("-", "_")] = flags.get(value.lower(), value)
    return options


def _print_summary(manifest: Manifest) -> None:
    summary = manifest.summary()
    rows = [tuple(str(value) for value in row) for row in summary.itertuples(index=False)]
    _print_table(list(summary.columns), rows)


def _print_findings(findings: Sequence[Finding], path: Path) -> None:
    """Show how often each kind of finding occurs, with one example; all of them are in a file."""
    if not findings:
        typer.echo("Nothing to report.")
        return
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.problem), []).append(finding)
    rows = [
        (severity, problem, f"{len(found):,}", _example(found[0]), found[0].remedy)
        for (severity, problem), found in sorted(kinds.items())
    ]
    _print_table(["", "what", "times", "for example", "what to do"], rows)
    typer.echo(f"All findings: {path}")


def _example(finding: Finding) -> str:
    text = finding.detail or finding.path
    return text if len(text) <= 80 else f"{text[:79]}…"


def _print_table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
