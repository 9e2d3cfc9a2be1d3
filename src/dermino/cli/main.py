"""The ``dermino`` command: collects the sub-commands and turns errors into messages."""

from __future__ import annotations

import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from dermino import __version__
from dermino.cli import (
    ablate,
    compare,
    data,
    demo,
    encoders,
    evaluate,
    labels,
    pretrain,
    report,
    search,
)
from dermino.errors import UserError
from dermino.progress import console

# Options that take several values side by side: --data a.parquet b.parquet.
SEVERAL = {
    "--against",
    "--analysis",
    "--audit",
    "--data",
    "--device",
    "--encoder",
    "--evaluate-on",
    "--metric",
    "--only",
    "--protocol",
    "--row",
    "--runs",
    "--set",
    "--split",
    "--suite",
    "--task",
    "--task-file",
}

app = typer.Typer(
    name="dermino",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Turn a dermatology image archive into a foundation model and measure it. "
    "Research software, not a medical device.",
)
app.command()(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(labels.app, name="labels")
app.add_typer(search.app, name="search")
app.command(epilog=pretrain.EPILOG)(pretrain.pretrain)
app.command(epilog=ablate.EPILOG)(ablate.ablate)
app.command()(encoders.encoders)
app.command()(evaluate.embed)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(report.report)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"dermino {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that every sub-command has; --debug may stand anywhere."""


def spread(arguments: list[str]) -> list[str]:
    """Rewrite ``--data a b`` as ``--data a --data b``, the form the parser understands."""
    result: list[str] = []
    option: str | None = None
    first = False
    for argument in arguments:
        if argument in SEVERAL:
            option, first = argument, True
            result.append(argument)
        elif argument.startswith("-"):
            option = None
            result.append(argument)
        elif option is None or first:
            first = False
            result.append(argument)
        else:
            result += [option, argument]
    return result


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    0 done, 1 something failed, 2 the input must be put right, 130 and 143 stopped by SIGINT and
    SIGTERM.
    """
    arguments = spread(list(sys.argv[1:] if arguments is None else arguments))
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    # Python dies of it at once otherwise: temporary files and other processes would stay behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app(arguments)
        sys.exit(0)
    except UserError as error:
        _report(error.message, error.remedy, debug)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130)
    except Exception as error:
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        message = f"{type(error).__name__}: {error}{where}"
        _report(message, "Run again with --debug to see where.", debug)
        sys.exit(1)


def _report(message: str, remedy: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    console.print(message, style="red", markup=False, soft_wrap=True)
    if remedy:
        console.print(remedy, markup=False, soft_wrap=True)
