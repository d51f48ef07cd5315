"""A report of what a command has compared, whether it is the same model or not."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from conversion.artifact.card import MatrixVerdict, build_parity_card
from conversion.cli.answer import describe_failures
from conversion.errors import ArtifactError
from conversion.report.records import ANY, Record, Result, describe_origin
from conversion.report.render import write_report
from conversion.suite.exported import describe_losses
from conversion.suite.pictures import take_what_can_be
from conversion.suite.subject import Subject


def report_on(
    subject: Subject,
    cells: Sequence[MatrixVerdict],
    path: Path | None,
    differences: Iterable[str] = (),
    beside: str = "",
) -> str:
    """Write a page about one model, with pictures of its first cell.

    Args:
        cells: none where the model does not run.
        path: nothing is written without one.
        differences: in files, each in a line.
        beside: what was compared with the checkpoint, if that is no conversion of it.

    Returns:
        why it could not be written, which takes nothing from the verdict; empty if it was.
    """
    if path is None:
        return ""
    lines = tuple(differences)
    results = [_describe_cell(subject, cell, lines) for cell in cells]
    if results:
        first = cells[0]
        pictures = take_what_can_be(subject, (first.device, first.dtype, first.attention))
        results[0] = replace(results[0], pictures=pictures)
    else:
        card = build_parity_card(subject.converted, subject.provenance, (), {})
        results = [Result(subject.variant, ANY, ANY, ANY, describe_origin(card), message="\n".join(lines))]
    named = (replace(result, origin=result.origin + (f", beside {beside}" if beside else "")) for result in results)
    try:
        write_report(Record(results=tuple(named)), path)
    except ArtifactError as error:
        return str(error)
    return ""


def _describe_cell(subject: Subject, cell: MatrixVerdict, differences: Sequence[str]) -> Result:
    card = build_parity_card(subject.converted, subject.provenance, (cell,), subject.hashes)
    losses = describe_losses([cell], subject.request.bounds)
    message = "\n".join(filter(None, [*differences, describe_failures(subject.variant, [cell]), *losses]))
    place = cell.device, cell.dtype, cell.attention
    return Result(subject.variant, *place, describe_origin(card), message=message, card=card)
