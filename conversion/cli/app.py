"""The command ``vision-parity``: its commands, in the order in which help lists them."""

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from conversion.cli import checkpoints, models
from conversion.cli.options import NOT_DONE, Version, plain_warnings

app = typer.Typer(
    name="vision-parity",
    help="Convert vision checkpoints to Hugging Face transformers, and prove that the result is the same model.",
    epilog="Exit status: 0 the same model, 1 not the same, 2 it could not be done.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    checkpoints.convert,
    checkpoints.compare,
    checkpoints.inspect,
    models.verify,
    models.restore,
    models.report,
    models.diff,
    models.publish,
    models.variants,
):
    app.command()(command)


@app.callback()
def describe(version: Version = False) -> None:
    """Take the options that belong to no command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and write out its whole answer; returns its exit status."""
    gc.disable()  # while libraries load; whatever takes memory turns it on again
    try:
        status = _run_command(arguments)
        sys.stdout.flush()
    except OSError as error:
        if error.filename:  # some file's, not the answer's
            raise
        return _say_unwritten(error)
    finally:
        gc.enable()
        gc.unfreeze()  # or libraries say at the end that they leak
    return status


def run() -> NoReturn:
    """Run a command, and end its process at once: to take libraries apart again would take two seconds."""
    status = main()
    atexit._run_exitfuncs()
    os._exit(status)


def _run_command(arguments: Sequence[str] | None) -> int:
    try:
        with plain_warnings():
            app(args=arguments, prog_name="vision-parity")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _say_unwritten(error: OSError) -> int:
    """Say that the answer is not there in full: the disk is full, or whoever reads has closed it."""
    typer.echo(f"The answer cannot be written: {error.strerror or error}", err=True)
    return NOT_DONE
