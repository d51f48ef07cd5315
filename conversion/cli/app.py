"""The commands and their options.

Each imports what it alone needs, and torch last: neither help nor a wrong option waits for it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from conversion.cli.options import (
    NOT_DONE,
    SAME,
    CheckpointOrVariant,
    Like,
    LinearHeadEntry,
    Machine,
    Named,
    RareReport,
    Report,
    SaveDtype,
    Thorough,
    Tolerance,
    Version,
    leave,
    plain_errors,
    plain_warnings,
    tell_github,
    with_help_all,
    with_settings,
)

app = typer.Typer(
    name="vision-parity",
    help="Convert vision checkpoints to Hugging Face transformers, and prove that the result is the same model.",
    epilog="Exit status: 0 the same model, 1 not the same, 2 it could not be done.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def describe(version: Version = False) -> None:
    """Take the options that belong to no command."""


@app.command()
@with_help_all
@with_settings
def convert(
    source: CheckpointOrVariant,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the folder in artifacts/.", hidden=True)] = None,
    image_size: Annotated[int | None, typer.Option(help="Bake positions for N x N pixels.")] = None,
    linear_head: Annotated[Path | None, typer.Option(help="The classifier that goes with it.")] = None,
    linear_head_entry: LinearHeadEntry = None,
    entry: Annotated[str | None, typer.Option(help="The file's entry with the model.")] = None,
    like: Like = None,
    labels: Annotated[Path | None, typer.Option(help="Class names: a name a line, or JSON.", hidden=True)] = None,
    variant: Named = None,
    weights: Annotated[str, typer.Option(help="pretrained or synthetic.", show_default=False)] = "pretrained",
    original: Annotated[str, typer.Option(help="The reference: bundled, hub, timm, or a clone.", hidden=True)] = "auto",
    device: Annotated[str, typer.Option(help="Where both models run.", hidden=True)] = "cpu",
    dtype: Annotated[str, typer.Option(help="The precision they run in.", hidden=True)] = "float32",
    save_dtype: SaveDtype = None,
    report: RareReport = None,
    max_shard_size: Annotated[str | None, typer.Option(help="Write shards, as 5GB.", hidden=True)] = None,
    mirror: Annotated[str | None, typer.Option(help="Where to download from.", hidden=True)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of synthetic weights and inputs.", hidden=True)] = 0,
    is_thorough: Thorough = False,
    machine: Machine = False,
    settings: dict[str, object] | None = None,
) -> None:
    """Convert a checkpoint, verify the result, and save it if it is the same model.

    vision-parity convert teacher.pth -o my-model
    vision-parity inspect teacher.pth    names the options that it needs
    """
    from conversion.cli.request import build_request

    with plain_errors():
        request = build_request(
            source,
            variant=variant,
            output=output,
            name=name,
            image_size=image_size,
            linear_head=linear_head,
            linear_head_entry=linear_head_entry,
            entry=entry,
            like=like,
            labels=labels,
            weights=weights,
            original=original,
            save_dtype=save_dtype,
            report=report,
            max_shard_size=max_shard_size,
            mirror=mirror,
            seed=seed,
            is_thorough=is_thorough,
            overrides=settings or {},
        )
        from conversion.cli.convert import convert_and_verify
        from conversion.cli.screens import show_outcome

        outcome = convert_and_verify(request, device, dtype)
    show_outcome(outcome, as_json=machine)
    answer, artifact = outcome.answer, outcome.output or ""
    tell_github(answer.variant, answer.conversion, answer.otherwise, outcome.failure, artifact=artifact, file=source)
    leave(outcome.is_same, outcome.unwritten)


@app.command()
@with_help_all
@with_settings
def compare(
    source: Annotated[Path, typer.Argument(metavar="ORIGINAL", help="The original checkpoint.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A folder, or a repository on the Hub.")],
    revision: Annotated[str | None, typer.Option(help="Of the repository.")] = None,
    linear_head: Annotated[Path | None, typer.Option(help="The classifier that goes with it.")] = None,
    linear_head_entry: LinearHeadEntry = None,
    entry: Annotated[str | None, typer.Option(help="The file's entry with the model.")] = None,
    like: Like = None,
    variant: Named = None,
    save_dtype: SaveDtype = None,
    is_thorough: Thorough = False,
    report: Report = None,
    machine: Machine = False,
    settings: dict[str, object] | None = None,
) -> None:
    """Is this folder, or this repository on the Hub, that checkpoint?

    vision-parity compare dinov2_vits14_pretrain.pth facebook/dinov2-small
    """
    from conversion.cli.request import build_request

    with plain_errors():
        request = build_request(
            str(source),
            variant=variant,
            linear_head=linear_head,
            linear_head_entry=linear_head_entry,
            entry=entry,
            like=like,
            save_dtype=save_dtype,
            is_thorough=is_thorough,
            report=report,
            overrides=settings or {},
        )
        from conversion.cli.comparing import compare as compare_with
        from conversion.cli.screens import show_comparison

        comparison = compare_with(request, target, revision)
    show_comparison(comparison, as_json=machine)
    answer = comparison.answer
    tell_github(comparison.variant, answer.conversion, answer.otherwise, comparison.message, file=str(source))
    leave(comparison.is_same, comparison.unwritten)


@app.command("inspect")
@with_help_all
@with_settings
def inspect_(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file or a folder.")],
    entry: Annotated[str | None, typer.Option(help="The file's entry with the model.")] = None,
    like: Like = None,
    linear_head: Annotated[Path | None, typer.Option(help="The classifier that goes with it.")] = None,
    linear_head_entry: LinearHeadEntry = None,
    variant: Named = None,
    machine: Machine = False,
    settings: dict[str, object] | None = None,
) -> None:
    """Say what is in a checkpoint, what would be done with it, and what has to be told.

    vision-parity inspect teacher.pth
    """
    from conversion.cli.request import check_source

    with plain_errors():
        check_source(source, str(source))
        from conversion.cli.inspecting import inspect_checkpoint
        from conversion.cli.screens import show_findings

        findings = inspect_checkpoint(source, entry, linear_head, variant, settings or {}, like, linear_head_entry)
    show_findings(findings, as_json=machine)
    raise typer.Exit(NOT_DONE if findings.obstacle else SAME)


@app.command()
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
    from conversion.intake.absence import check_folders

    with plain_errors():
        check_folders(*directories)
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


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="That from_pretrained reads.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write; it must not be there yet.")],
) -> None:
    """Write a converted model back in the original's own layout.

    vision-parity restore my-model back.pth
    """
    from conversion.intake.absence import check_folders

    with plain_errors():
        check_folders(directory)
        from conversion.artifact.restore_checkpoint import describe_restored, restore_checkpoint
        from conversion.cli.screens import show_restored

        show_restored(restore_checkpoint(directory, file), describe_restored(directory))


@app.command()
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


@app.command()
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
    from conversion.intake.absence import check_folders

    if machine and markdown:
        raise typer.BadParameter("is another form than --markdown; give one of them.", param_hint="--json")
    with plain_errors():
        check_folders(baseline, new)
        from conversion.cli.diffing import show_diff

        status = show_diff(baseline, new, as_json=machine, as_markdown=markdown, write=write)
    raise typer.Exit(status)


@app.command()
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
    from conversion.intake.absence import check_folders

    with plain_errors():
        check_folders(directory)
        from conversion.cli.publishing import publish as publish_with

        is_sent = publish_with(directory, target, dry_run=dry_run, public=public, is_agreed=yes)
    if not is_sent and not dry_run:
        raise typer.Exit(NOT_DONE)


@app.command()
def variants(machine: Machine = False) -> None:
    """List the official variants.

    vision-parity variants
    """
    from conversion.cli.listing import show_variants

    show_variants(as_json=machine)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    try:
        with plain_warnings():
            app(args=arguments, prog_name="vision-parity")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
