"""The commands on models that were converted, and on what was said of them.

Each imports what loads torch last, behind what can be said without it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from conversion.cli.options import NOT_DONE, Machine, Tolerance, plain_errors, with_help_all
from conversion.intake.absence import check_any_there


@with_help_all
def verify(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="As convert left them.")],
    deep: Annotated[bool, typer.Option("--deep", help="Run both models again, too.")] = False,
    error_ratio: Tolerance = None,
    chance: Tolerance = None,
    floor_max_ulp: Tolerance = None,
    floor_rms_ulp: Tolerance = None,
) -> None:
    """Hold the files of converted models against their cards.

    vision-parity verify my-model
    """
    with plain_errors():
        check_any_there(*directories)
    from conversion.cli.verifying import verify_directories
    from conversion.parity.verdict import OURS

    given = {
        "error_ratio": error_ratio,
        "chance": chance,
        "floor_max_ulp": floor_max_ulp,
        "floor_rms_ulp": floor_rms_ulp,
    }
    tolerances = replace(OURS, **{name: value for name, value in given.items() if value is not None})
    raise typer.Exit(verify_directories(directories, tolerances, deep=deep))


def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="That from_pretrained reads.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write; it must not be there yet.")],
) -> None:
    """Write a converted model back in the original's own layout.

    vision-parity restore my-model back.pth
    """
    with plain_errors():
        check_any_there(directory)
        from conversion.artifact.restore_checkpoint import describe_restored, restore_checkpoint
        from conversion.cli.screens import show_restored

        show_restored(restore_checkpoint(directory, file), describe_restored(directory))


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Converted models, or reports' records.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
) -> None:
    """Make one HTML page of all that was verified.

    vision-parity report artifacts -o report.html
    """
    from conversion.report.place import check_place

    with plain_errors():
        check_place(output, "--output")
        from conversion.report.records import gather
        from conversion.report.render import describe_counts, write_report

        record = gather(folders)
        write_report(record, output)
    typer.echo(f"{output}: {describe_counts(record)}")


def diff(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="A folder, a report's record, or a baseline.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="What to hold against it; one of these, too.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Answer in Markdown, for an issue.")] = False,
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Write NEW's verdicts there, a baseline.")] = None,
    machine: Machine = False,
) -> None:
    """Say what changed between two runs, and the versions of each.

    vision-parity diff artifacts-of-june artifacts
    vision-parity diff fixtures/verdicts.json report.json

    Exit status: 0 nothing changed, 1 something did, 2 nothing can be compared.
    """
    if machine and markdown:
        raise typer.BadParameter("is another form than --markdown; give one of them.", param_hint="--json")
    with plain_errors():
        check_any_there(baseline, new, kinds=("file", "folder"))
        from conversion.cli.diffing import show_diff

        status = show_diff(baseline, new, as_json=machine, as_markdown=markdown, write=write)
    raise typer.Exit(status)


def publish(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A converted model, as convert left it.")],
    target: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The repository on the Hub.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    public: Annotated[bool, typer.Option("--public", help="To everybody; else to the namespace alone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Publish a verified model on the Hub.

    vision-parity publish my-model my-org/my-model --dry-run
    """
    with plain_errors():
        check_any_there(directory)
        from conversion.cli.publishing import publish as publish_with

        is_sent = publish_with(directory, target, dry_run=dry_run, public=public, is_agreed=yes)
    if not is_sent and not dry_run:
        raise typer.Exit(NOT_DONE)


def variants(machine: Machine = False) -> None:
    """List the official variants.

    vision-parity variants
    """
    from conversion.cli.listing import show_variants

    show_variants(as_json=machine)
