"""The command ``vision-parity``: its commands, in the order in which help lists them."""

from collections.abc import Sequence

import typer

from conversion.cli import checkpoints, models
from conversion.cli.options import Version, plain_warnings

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
    """Run a command; returns its exit status."""
    try:
        with plain_warnings():
            app(args=arguments, prog_name="vision-parity")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
