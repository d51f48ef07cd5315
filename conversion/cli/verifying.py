"""``vision-parity verify``: files held against their cards; ``--deep`` runs both models again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from conversion.artifact.answer import build_answer
from conversion.artifact.card import list_cells, place_of
from conversion.artifact.derived import describe_unproven
from conversion.artifact.verify import verify_artifact
from conversion.cli.options import NOT_DONE, NOT_THE_SAME, SAME
from conversion.errors import ConversionError, DeviceError
from conversion.families.external import BUNDLED
from conversion.intake.download import find_checksums
from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Tolerances, Verdict
from conversion.report.text import fold
from conversion.state_dicts.folder import PARITY_CARD
from conversion.suite.axes import check_axes, read_variants
from conversion.suite.cells import verify_cell
from conversion.suite.folder import FolderSubject
from conversion.suite.github import report
from conversion.suite.job_summary import FAILED, NOT_RUN, Row
from conversion.suite.memory import resume_collection
from conversion.suite.progress import show_steps, silence_loading
from conversion.suite.settings import Request
from conversion.suite.threads import prepare_torch


def verify_directories(directories: Sequence[Path], tolerances: Tolerances, *, deep: bool) -> int:
    """Verify every artifact.

    Returns:
        the exit status: ``NOT_THE_SAME`` if one is not what its card says; else ``NOT_DONE`` if one has no card,
            or has to be run on a device that is not here.
    """
    without_card = {str(directory) for directory in directories if not (directory / PARITY_CARD).is_file()}
    rows: list[Row] = []
    sound = []
    for directory in directories:
        try:
            card = verify_artifact(directory, tolerances, find_checksums())
        except (ConversionError, OSError) as error:
            said = str(error) if isinstance(error, ConversionError) else f"{directory}: cannot be read: {error}"
            typer.echo(said, err=True)
            rows.append(Row(str(directory), message=said, file=str(directory)))
            continue
        for line in (
            *fold(f"{directory}: as its card says: {describe_verdicts(card)}"),
            *fold(describe(card), indent=2),
        ):
            typer.echo(line)
        sound.append((directory, card))
    if sound:
        has_exports = any(card.get("exports") for _, card in sound)
        typer.echo("\n".join(fold(describe_unproven(is_deep=deep, has_exports=has_exports))))
    for directory, card in sound:
        place = str(directory)
        try:
            message = compare_again(directory, card) if deep else ""
        except DeviceError as error:
            typer.echo(f"{directory}: {error}", err=True)
            rows.append(Row(card["variant"], verdict=NOT_RUN, message=str(error), file=place))
            continue
        verdict = FAILED if message else card["verdict"]
        rows.append(Row(card["variant"], verdict=verdict, artifact=place, message=message, file=place))
    for line in report(rows):
        typer.echo(line, err=True)
    if any(row.verdict == FAILED for row in rows if row.file not in without_card):
        return NOT_THE_SAME
    is_incomplete = without_card or any(row.verdict == NOT_RUN for row in rows)
    return NOT_DONE if is_incomplete else SAME


def describe_verdicts(card: Mapping[str, Any]) -> str:
    """Both answers of a card, in a line: how exact the conversion is, and what transformers does otherwise."""
    answer = build_answer(card)
    cells = [
        f"{judged.verdict} with {judged.attention} in {judged.dtype}"
        for judged in (*answer.conversion, *answer.exports)
    ]
    names = [each.name for each in answer.otherwise]
    return (", ".join(cells) or card["verdict"]) + (
        f"; transformers does otherwise: {', '.join(names)}" if names else ""
    )


def describe(card: Mapping[str, Any]) -> str:
    """What was compared, in a line."""
    points = sum(len(result["points"]) for cell in list_cells(card) for result in cell["inputs"])
    inputs = sum(len(cell["inputs"]) for cell in list_cells(card))
    tensors = card["tensors"]["compared"]
    return f"{tensors} tensors; {points} capture points, on {inputs} inputs; {len(card['result'])} files as they were"


def compare_again(directory: Path, card: Mapping[str, Any]) -> str:
    """Run the comparison once more, in the cells of the matrix that the card has, as thoroughly.

    Returns:
        why it failed; empty if it did not.

    Raises:
        DeviceError: a device, dtype or attention implementation of the card is not there.
    """
    prepare_torch(0, 1)
    silence_loading()
    resume_collection()
    cells = card["activations"]
    check_axes(*(sorted({cell[axis] for cell in cells}) for axis in ("device", "dtype", "attention")))
    for original in sorted({cell["original"] for cell in cells} - {BUNDLED}):
        typer.echo(f"{directory}: was compared with {original}; the bundled original takes its place")
    is_thorough = len({tuple(result["input"] for result in cell["inputs"]) for cell in cells}) == 1
    said, failures = {place_of(cell): cell["verdict"] for cell in cells}, []
    for seed in sorted({cell["input_seed"] for cell in cells}):
        places = [place_of(cell) for cell in cells if cell["input_seed"] == seed]
        request = Request(checkpoint=directory, seed=seed, is_thorough=is_thorough)
        try:
            specs, read = read_variants(request)
            subject = FolderSubject(next(iter(specs)), request, cells=places, given=read)
            try:
                with show_steps():
                    verdicts = [verify_cell(subject, place) for place in places]
            finally:
                subject.close()
        except ConversionError as error:
            typer.echo(str(error), err=True)
            return str(error)
        for place, cell in zip(places, verdicts, strict=True):
            if cell.verdict is Verdict.FAILED:
                failures.append(describe_failure(str(directory), ", ".join(place), cell.inputs))
                typer.echo(failures[-1], err=True)
            else:
                again = "again" if cell.verdict == said[place] else f"here, {said[place]} by its card"
                typer.echo(f"{directory}: {', '.join(place)}: {cell.verdict} {again}")
    return "\n".join(failures)
