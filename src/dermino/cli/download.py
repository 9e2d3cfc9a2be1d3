"""``dermino data download``: fetch what publishers offer openly, after saying what it is."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer


def download_data(
    name: Annotated[
        str | None, typer.Argument(help="What to fetch; without it all that can be is listed.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="You have read what would be fetched and want it.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Fetch files of these names only, such as '*.csv'."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Fetch at most so many pictures of a list.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Connections in all.")] = 16,
    retry_dead: Annotated[
        bool, typer.Option("--retry-dead", help="Ask again for what was found dead before.")
    ] = False,
    addresses: Annotated[
        Path | None, typer.Option(help="A YAML file of other addresses, such as a mirror's.")
    ] = None,
) -> None:
    """Fetch a dataset that its publisher offers openly; nothing without your word.

    Called again, it goes on where it was stopped. Dead links are listed in
    OUT/download.findings.csv, what came in OUT/downloaded.jsonl.

    dermino data download scin --out SCIN

    dermino data download isic2017 --out ISIC2017 --only '*.csv' --yes
    """
    from dermino.data.download import download, read_offers
    from dermino.data.download.offer import find_offer
    from dermino.errors import UserError

    if name is None:
        for offer in read_offers(addresses).values():
            typer.echo("\n  ".join(offer.describe()[:4]) + "\n")
        typer.echo("Fetch one with: dermino data download NAME --out FOLDER")
        return
    offer = find_offer(name, addresses)
    if out is None:
        raise UserError("Where to is not said.", "Name a folder with --out.")
    typer.echo("\n  ".join(offer.describe()))
    typer.echo(f"  To: {out}")
    if not yes and not sys.stdin.isatty():
        raise UserError("Nothing was fetched: nobody has agreed.", "Add --yes to agree.")
    if not yes and not typer.confirm("Fetch it and keep to its licence?"):
        typer.echo("Nothing was fetched.")
        return
    done = download(
        name,
        out,
        only=only or (),
        limit=limit,
        workers=workers,
        retry_dead=retry_dead,
        addresses=addresses,
    )
    typer.echo(f"{done.fetched:,} files fetched, {done.kept:,} were there.")
    reasons = Counter(finding.problem for finding in done.findings)
    for reason, count in reasons.most_common(10):
        typer.echo(f"{count:,} not: {reason}")
    if reasons:
        typer.echo(f"All of them: {out}/download.findings.csv")
    typer.echo(f"Next: dermino data import auto {out} --out {out.name}.parquet")
