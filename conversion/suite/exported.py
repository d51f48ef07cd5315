"""An export of a variant, written into its artifact, run by its runtime, and judged against the original."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from conversion.artifact.answer import describe_cell, describe_judged
from conversion.artifact.card import MatrixVerdict, hash_file, list_known, record_cell
from conversion.artifact.files import flush
from conversion.artifact.load import load_image_processor
from conversion.errors import ExportError
from conversion.exports.asked import INT8_STATIC, Export, find_export
from conversion.exports.bounds import RATIO, Bound, find_exceeded, measure_loss
from conversion.exports.pictures import list_pictures, open_picture
from conversion.exports.runs import Exported
from conversion.exports.tracing import Normalization, Traced, prepare, quiet
from conversion.exports.write import choose_dtype, write_export
from conversion.parity.capture import capture
from conversion.parity.compare import LOGITS, Local
from conversion.parity.metrics import Likeness, likeness_of
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs
from conversion.parity.verdict import Verdict, find_vacuity
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from conversion.suite.cells import draw_inputs_of, find_deviation_on, verify_cell
from conversion.suite.inputs import InputCase
from conversion.suite.progress import say
from conversion.suite.subject import Cell, Subject
from conversion.suite.threads import limit_threads

BATCH = 3
"""Images through a graph with a dynamic batch, beside one alone."""


def verify(subject: Subject, cell: Cell) -> MatrixVerdict:
    """The verdict on a cell of the matrix: on an attention implementation of transformers, or on an export."""
    export = find_export(cell)
    return verify_export(subject, export) if export else verify_cell(subject, cell)


def verify_export(subject: Subject, export: Export) -> MatrixVerdict:
    """Write an export into the staged artifact, and judge it on every input that it takes.

    Raises:
        ExportError: it cannot be written or run.
    """
    with quiet():
        return _write_and_verify(subject, export)


def _write_and_verify(subject: Subject, export: Export) -> MatrixVerdict:
    where = f"{subject.variant}: {export.label}, {export.precision}"
    say(f"{where}: writing")
    traced, exported = _write(subject, export)
    facts = describe(subject, export, traced, exported) | measure_pictures(subject, export, traced, exported)
    results = []
    for case in select_inputs(subject, traced):
        say(f"{where}: {case.name}")
        results.append(_verify(subject, export, traced, exported, case))
    place = *export.cell, subject.request.seed
    return MatrixVerdict(*place, tuple(results), subject.describe_reference(), facts)


def select_inputs(subject: Subject, traced: Traced) -> list[InputCase]:
    """The inputs of the model that a graph takes: no masks, no other images; with three images where there were two.

    A graph of one image size takes several images of that size.
    """
    taken = [case for case in subject.inputs if not case.masked and case.baked is None]
    cases = [replace(case, name=f"batch_{BATCH}", batch=BATCH) if case.batch > 1 else case for case in taken]
    if traced.is_dynamic:
        return cases
    size = subject.converted.spec.image_size
    cases = [replace(case, height=size, width=size) if case.batch > 1 else case for case in cases]
    return [case for case in cases if case.height == case.width == size]


def describe(subject: Subject, export: Export, traced: Traced, exported: Exported) -> dict[str, object]:
    """What a card says of an export, beside its verdict."""
    names = (path.relative_to(subject.directory).as_posix() for path in exported.files)
    files = {name: hash_file(subject.directory / name) for name in names}
    return {
        "runtime": exported.runtime,
        "precision": export.precision,
        "files": files,
        "input": traced.input,
        "outputs": list(traced.returned),
        "dynamic": ["batch", *(("height", "width") if traced.is_dynamic else ())],
        **exported.facts,
    }


def _write(subject: Subject, export: Export) -> tuple[Traced, Exported]:
    """Write the export into the staged artifact, which is gone if anything goes wrong."""
    traced = _trace(subject, choose_dtype(export))
    calibration = list(read_pictures(subject, traced)) if export.precision == INT8_STATIC else []
    with limit_threads(traced.spec.embed_dim):
        exported = write_export(traced, export, subject.directory, subject.request.opset, calibration)
    for path in exported.files:
        flush(path)
    return traced, exported


def _trace(subject: Subject, dtype: str) -> Traced:
    """The converted model, ready to be exported in this dtype; kept until another dtype is asked for."""
    if dtype not in subject.traced:
        model = subject.load(None, "cpu", dtype, subject.family.choose_attention())
        subject.traced = {dtype: prepare(subject.converted, model, choose_normalization(subject))}
    traced: Traced = subject.traced[dtype]
    return traced


def read_pictures(subject: Subject, traced: Traced) -> Iterator[Tensor]:
    """The user's own pictures as the graph takes them, one at a time; none where none were given.

    Raises:
        ExportError: one cannot be read, or the graph takes no images of that size.
    """
    if subject.request.pictures is None:
        return
    require_preprocessor(subject, "--pictures")
    processor = load_image_processor(subject.directory)
    for path in list_pictures(subject.request.pictures):
        pixel_values: Tensor = processor(open_picture(path), return_tensors="pt")["pixel_values"]
        if not traced.is_dynamic and pixel_values.shape[-2:] != traced.shape[-2:]:
            sides = (" x ".join(map(str, shape[-2:])) for shape in (pixel_values.shape, traced.shape))
            raise ExportError(f"{path}: becomes {next(sides)} pixels; this graph takes {next(sides)}.")
        yield traced.normalization.undo(pixel_values) if traced.normalization else pixel_values


def measure_pictures(subject: Subject, export: Export, traced: Traced, exported: Exported) -> dict[str, object]:
    """How alike what is returned is on the user's own pictures: the worst cosine, and the part of equal decisions.

    What transformers does otherwise is not charged to the export: the original computes it, too.
    """
    original, dtype = subject.original("cpu"), getattr(torch, export.dtype)
    stages = [stage for stage in traced.stages if any(point.name in traced.returned.values() for point in stage.points)]
    found: dict[str, list[Likeness]] = {}
    for number, images in enumerate(read_pictures(subject, traced), start=1):
        say(f"{subject.variant}: {export.label}, {export.precision}: picture {number}")
        given = images.to(getattr(torch, choose_dtype(export)))
        returned = exported.run(given)
        pixel_values = traced.normalization.apply(images) if traced.normalization else images
        deviation = subject.family.find_deviation(traced.spec, tuple(pixel_values.shape), export.dtype, export.runtime)
        attributes = deviation.original_attributes if deviation else {}
        run = OriginalRun(original, stages, Inputs(pixel_values), dtype, attributes)
        expected = capture(run.model, stages, "original", run.inputs, dtype)
        for name, point in traced.returned.items():
            if reason := find_vacuity(expected[point], returned[name].to(dtype)):
                raise ExportError(
                    f"picture {number}, {name}: {reason}.", hint="Leave this precision out, or the picture."
                )
            alike = likeness_of(returned[name].to(dtype), expected[point], decides=point.endswith(LOGITS))
            found.setdefault(point, []).append(alike)
    if not found:
        return {}
    likeness = {point: list_known(summarise(each)) for point, each in found.items()}
    return {"pictures": {"count": number, "likeness": likeness}}


def summarise(likeness: Sequence[Likeness]) -> Likeness:
    """The smallest cosine of several pictures, and, of logits, the part of all decisions that are the same."""
    tops = [each.top for each in likeness if each.top is not None]
    return Likeness(min(each.cosine for each in likeness), sum(tops) / len(tops) if tops else None)


def require_preprocessor(subject: Subject, option: str) -> Mapping[str, Any]:
    """The settings of the image processor.

    Raises:
        ExportError: the model has none, and this option needs it.
    """
    if not subject.converted.preprocessor:
        raise ExportError(f"{option}: this model has no image processor.", hint=f"Leave {option} out.")
    return subject.converted.preprocessor


def choose_normalization(subject: Subject) -> Normalization | None:
    """What the graph does to its images first, if it was asked to."""
    if not subject.request.normalizes:
        return None
    settings = require_preprocessor(subject, "--normalize")
    return Normalization(tuple(settings["image_mean"]), tuple(settings["image_std"]))


def _verify(subject: Subject, export: Export, traced: Traced, exported: Exported, case: InputCase) -> InputVerdict:
    """Judge an export on one input. What it returns is taken from the graph that was written."""
    inputs, counterfactual_inputs = draw_inputs_of(subject, case)
    given = Inputs(subject.processed_photo) if case.photo else inputs
    dtype = getattr(torch, export.dtype)
    pixel_values = given.pixel_values.to(getattr(torch, choose_dtype(export)))
    if traced.normalization:
        images = traced.normalization.undo(pixel_values)
        inputs = given = Inputs(traced.normalization.apply(images))
        counterfactual_inputs = None  # the original gets the very same
        pixel_values = images
    computed = merge_outputs(traced, exported.run_tapped(pixel_values), exported.run(pixel_values), dtype)
    spec = traced.spec
    deviation = find_deviation_on(case, subject.family, spec, export.dtype, export.runtime)
    run = OriginalRun(subject.original("cpu"), traced.stages, inputs, dtype)
    candidate = Candidate(None, deviation, traced.stages, given, computed)
    with limit_threads(spec.embed_dim):
        ((verdict,),) = verify_together([InputPlan(case.name, run, [candidate], counterfactual_inputs)], Local.NOWHERE)
    return verdict


def merge_outputs(
    traced: Traced, tapped: Mapping[str, Tensor], returned: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Capture point to what a runtime computed there, in the dtype of the comparison.

    Args:
        tapped: of the graph that is looked into.
        returned: of the one that is kept.
    """
    found = {traced.taps[name]: tapped[name] for name in traced.taps if name in tapped}
    found |= {traced.returned[name]: returned[name] for name in traced.returned if name in returned}
    return {point: value.to(dtype) for point, value in found.items()}


def find_unwanted_loss(cell: MatrixVerdict, bounds: Sequence[Bound]) -> str | None:
    """Why an export is not kept, in words; None where it may be.

    Integers are lossy, and whoever asks for them by name knows: bounds on what they return hold for them. All else has
    to be the same model, unless its user says how many times the original's own error it may have.
    """
    export = find_export((cell.device, cell.dtype, cell.attention))
    if cell.verdict is Verdict.FAILED or export is None:
        return None
    measured = measure_loss(cell.inputs, (cell.exported or {}).get("pictures"))
    applying = [bound for bound in bounds if bound.measure != RATIO or not export.may_lose]
    if exceeded := list(find_exceeded(measured, applying)):
        return "\n".join([describe_loss(cell), *exceeded])
    is_granted = export.may_lose or any(bound.measure == RATIO for bound in bounds)
    if is_granted or cell.verdict is not Verdict.LOSSY:
        return None
    way = f"--require ratio={math.ceil(measured[RATIO] or 1.0)}"
    return f"{describe_loss(cell)}\nIt is not kept. To keep it, say how much its error may be: {way}."


def describe_losses(cells: Iterable[MatrixVerdict], bounds: Sequence[Bound]) -> list[str]:
    """Why exports are not kept, of those that are not."""
    return [loss for cell in cells if (loss := find_unwanted_loss(cell, bounds))]


def describe_loss(cell: MatrixVerdict) -> str:
    """How much an export has lost, and where most of that arises."""
    return f"{cell.attention}, {cell.dtype}: {describe_judged(describe_cell(record_cell(cell)))}"
