"""``dermino encoders``: which encoders have a name, and where their weights come from."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def encoders(
    name: Annotated[str | None, typer.Argument(help="Show one encoder in full.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the encoders that have a short name: input, feature, size, licence and source.

    Any other is named timm:NAME, hf:ID, open_clip:NAME/TAG, by its run folder or by its file.
    NAME=FILE reads a file that was downloaded by hand: dermino embed --encoder panderm=FILE.

    Example: dermino encoders panderm
    """
    from dermino.errors import unknown
    from dermino.models.named import describe_named

    rows = {row["name"]: row for row in describe_named()}
    if name is not None and name not in rows:
        raise unknown("encoder", name, rows)
    if as_json:
        shown = list(rows.values()) if name is None else rows[name]
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif name is not None:
        for key, value in rows[name].items():
            if value not in ("", None):
                typer.echo(f"{key.replace('_', ' '):14}{value}")
    else:
        typer.echo(f"{'name':26}{'input':>6}{'width':>7}{'parameters':>14}  {'weights':10}licence")
        for row in rows.values():
            source = row["weights"].partition(":")[0]
            typer.echo(
                f"{row['name']:26}{row['image_size']:6}{row['embed_dim']:7}"
                f"{row['parameters']:14,}  {source:10}{row['licence']}"
            )
        typer.echo("\nAll about one of them: dermino encoders NAME")
