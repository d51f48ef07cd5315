"""The commands that read a checkpoint: ``convert``, ``compare`` and ``inspect``.

Each imports what loads torch last, behind what can be said without it.
"""

from pathlib import Path
from typing import Annotated

import typer

from conversion.cli.options import (
    NOT_DONE,
    SAME,
    CheckpointOrVariant,
    DepthHead,
    Kind,
    Like,
    LinearHeadEntry,
    Machine,
    Named,
    RareReport,
    Report,
    SaveDtype,
    Thorough,
    leave,
    parse_each,
    plain_errors,
    tell_github,
    with_help_all,
    with_settings,
)


@with_help_all
@with_settings
def convert(
    source: CheckpointOrVariant,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the folder in artifacts/.", hidden=True)] = None,
    image_size: Annotated[int | None, typer.Option(help="Bake positions for N x N pixels.")] = None,
    linear_head: Annotated[Path | None, typer.Option(help="The classifier that goes with it.")] = None,
    linear_head_entry: LinearHeadEntry = None,
    depth_head: DepthHead = None,
    kind: Kind = None,
    entry: Annotated[str | None, typer.Option(help="The file's entry with the model.", hidden=True)] = None,
    like: Like = None,
    labels: Annotated[Path | None, typer.Option(help="Class names: a name a line, or JSON.", hidden=True)] = None,
    variant: Named = None,
    weights: Annotated[str, typer.Option(help="pretrained or synthetic.", hidden=True)] = "pretrained",
    original: Annotated[str, typer.Option(help="The reference: bundled, hub, timm, or a clone.", hidden=True)] = "auto",
    device: Annotated[str, typer.Option(help="Where both models run.", hidden=True)] = "cpu",
    dtype: Annotated[str, typer.Option(help="The precision they run in.", hidden=True)] = "float32",
    save_dtype: SaveDtype = None,
    report: RareReport = None,
    max_shard_size: Annotated[str | None, typer.Option(help="Write shards, as 5GB.", hidden=True)] = None,
    mirror: Annotated[str | None, typer.Option(help="Where to download from.", hidden=True)] = None,
    exports: Annotated[list[str] | None, typer.Option("--export", help="To onnx, openvino or torch.")] = None,
    bounds: Annotated[
        list[str] | None, typer.Option("--require", help="Of an export: ratio=3, cosine=0.99.", hidden=True)
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="To calibrate and measure exports.", hidden=True)] = None,
    opset: Annotated[int | None, typer.Option(help="Of an ONNX export.", hidden=True)] = None,
    normalizes: Annotated[
        bool, typer.Option("--normalize", help="Exports take images from 0 to 1.", hidden=True)
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of synthetic weights and inputs.", hidden=True)] = 0,
    is_thorough: Thorough = False,
    machine: Machine = False,
    settings: dict[str, object] | None = None,
) -> None:
    """Convert a checkpoint, verify the result, and save it if it is the same model.

    vision-parity convert teacher.pth -o my-model
    vision-parity inspect teacher.pth    names the options that it needs
    """
    from conversion.cli.request import build_request, choose_kind
    from conversion.exports.asked import parse_export
    from conversion.exports.bounds import parse_bound

    with plain_errors():
        request = build_request(
            source,
            variant=variant,
            output=output,
            name=name,
            image_size=image_size,
            linear_head=linear_head,
            linear_head_entry=linear_head_entry,
            depth_head=depth_head,
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
            exports=parse_each("--export", parse_export, exports),
            bounds=parse_each("--require", parse_bound, bounds),
            opset=opset,
            pictures=pictures,
            normalizes=normalizes,
            overrides=choose_kind(kind, settings or {}),
        )
        from conversion.cli.convert import convert_and_verify
        from conversion.cli.screens import show_outcome

        outcome = convert_and_verify(request, device, dtype)
    show_outcome(outcome, as_json=machine)
    answer, artifact = outcome.answer, outcome.output or ""
    tell_github(answer.variant, answer.conversion, answer.otherwise, outcome.failure, artifact=artifact, file=source)
    leave(outcome.is_same, outcome.unwritten)


@with_help_all
@with_settings
def compare(
    source: Annotated[Path, typer.Argument(metavar="ORIGINAL", help="The original checkpoint.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A folder, or a repository on the Hub.")],
    revision: Annotated[str | None, typer.Option(help="Of the repository.")] = None,
    linear_head: Annotated[Path | None, typer.Option(help="The classifier that goes with it.")] = None,
    linear_head_entry: LinearHeadEntry = None,
    depth_head: DepthHead = None,
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
            depth_head=depth_head,
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


@with_help_all
@with_settings
def inspect(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file or a folder.")],
    entry: Annotated[str | None, typer.Option(help="The file's entry with the model.")] = None,
    like: Like = None,
    linear_head: Annotated[Path | None, typer.Option(help="The classifier that goes with it.")] = None,
    linear_head_entry: LinearHeadEntry = None,
    depth_head: DepthHead = None,
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
        from conversion.suite.settings import Request

        request = Request(
            checkpoint=source,
            variant=variant,
            linear_head=linear_head,
            linear_head_entry=linear_head_entry,
            depth_head=depth_head,
            entry=entry,
            like=like,
            overrides=settings or {},
        )
        findings = inspect_checkpoint(request)
    show_findings(findings, as_json=machine)
    raise typer.Exit(NOT_DONE if findings.obstacle else SAME)
