"""``vision-parity convert``: a checkpoint, converted, verified and saved."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from conversion.cli.answer import Outcome, build_outcome
from conversion.cli.reporting import report_on
from conversion.errors import CheckpointError
from conversion.families.base import Spec
from conversion.suite.axes import (
    check_axes,
    check_image_size,
    check_selected,
    read_variants,
)
from conversion.suite.exported import verify
from conversion.suite.memory import measure_memory, resume_collection
from conversion.suite.progress import show_steps, silence_loading
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from conversion.suite.threads import prepare_torch

ARTIFACTS = Path("artifacts")
"""Where a model is written whose place is not said, under its own name."""


def choose_name(request: Request, specs: Mapping[str, Spec]) -> str:
    """The variant that is converted.

    Args:
        specs: of what can be had.

    Raises:
        CheckpointError: it is an official one, of which no weights are published.
    """
    name = request.keyword or next(iter(specs))
    if name not in specs:
        hint = "Give a checkpoint of your own, or --weights synthetic."
        raise CheckpointError(f"{name}: no official weights are published.", hint=hint)
    return name


def convert_and_verify(request: Request, device: str, dtype: str) -> Outcome:
    """Convert, verify with every attention implementation, and save what is the same model.

    Raises:
        ConversionError: it cannot be converted, or not be saved. Nothing is left half written.
    """
    prepare_torch(0, 1)
    specs, read = read_variants(request)
    silence_loading()  # which loads transformers: not before the checkpoint is known to be one
    name = choose_name(request, specs)
    request = replace(request, artifacts=ARTIFACTS)
    chosen = {name: specs[name]}
    check_image_size(request.image_size, chosen)
    devices, dtypes, attentions = check_axes([device], [dtype], None)
    check_selected(request.image_size, chosen, attentions, measure_memory())
    cells = [(devices[0], dtypes[0], attention) for attention in attentions]
    exports = [export.cell for export in request.exports]
    subject = Subject(name, request, cells=cells, given=read)
    try:
        with show_steps():
            _ = subject.staged  # which loads the last of the libraries
            resume_collection()
            verdicts = tuple(verify(subject, cell) for cell in [*cells, *exports])
            unwritten = report_on(subject, verdicts, request.report)
            outcome = replace(build_outcome(subject, verdicts), unwritten=unwritten)
        if outcome.is_same:
            outcome = replace(outcome, replaced=subject.staged.publish(subject.provenance, verdicts))
        return outcome
    finally:
        subject.close()
