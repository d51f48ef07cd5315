"""The two answers: is it the same model, and what does transformers do otherwise? With how to load it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conversion.artifact.card import MatrixVerdict
from conversion.artifact.model_card import TASKS
from conversion.families.target import transformers_major
from conversion.families.told import describe_told
from conversion.parity.deviations import split_names
from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Verdict, worst
from conversion.parity.verify import InputVerdict
from conversion.state_dicts.convert import Conversion
from conversion.suite.subject import Subject

RETURNED = "returned."
"""How the names of what a model returns begin, among the capture points."""


@dataclass(frozen=True)
class Judged:
    """The conversion, by one attention implementation.

    Attributes:
        verdict: exact, close or failed, at the points that decide.
        inputs, points: how many were compared.
        error_ratio: the largest error, as a multiple of the original's own; 1 where exact.
    """

    attention: str
    device: str
    dtype: str
    verdict: str
    inputs: int
    points: int
    error_ratio: float


@dataclass(frozen=True)
class Otherwise:
    """Something that transformers computes otherwise than the original, with any weights.

    Attributes:
        sizes: input to how far what this model returns is off there, at most.
    """

    name: str
    cause: str
    remedy: str
    sizes: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What a conversion came to.

    Attributes:
        variant: official name, or the family's and ``_custom``.
        is_synthetic: the weights were drawn: the model has learned nothing.
        conversion: with each attention implementation.
        otherwise: what transformers does otherwise.
        identical_sizes: sides of square images, in pixels, at which the model is identical; all that were tried.
        processor_size: of the images that its processor makes.
        notes: what is said of it besides: on whose word settings are taken.
        failure: where it first fails, in full; empty unless it does.
        output: where it was saved; None where it was not.
        usage: lines of Python that load it and are identical to the original.
    """

    variant: str
    is_synthetic: bool
    conversion: tuple[Judged, ...]
    otherwise: tuple[Otherwise, ...]
    identical_sizes: tuple[int, ...]
    processor_size: int
    notes: tuple[str, ...]
    failure: str
    output: str | None
    usage: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether the conversion failed nowhere."""
        return all(judged.verdict != Verdict.FAILED for judged in self.conversion)


def build_answer(subject: Subject, cells: Sequence[MatrixVerdict]) -> Answer:
    """What the verdicts on a variant come to."""
    out = subject.converted
    failed = [cell for cell in cells if judge_conversion(cell) is Verdict.FAILED]
    failure = "\n\n".join(
        describe_failure(subject.variant, f"{cell.device}, {cell.dtype}, {cell.attention}", cell.inputs)
        for cell in failed
    )
    output = None if failed else str(subject.staged.target)
    sizes = list_identical_sizes(subject, out)
    return Answer(
        variant=subject.variant,
        is_synthetic=subject.provenance.weights == "synthetic",
        conversion=tuple(map(describe_cell, cells)),
        otherwise=tuple(list_otherwise(subject, cells)),
        identical_sizes=sizes,
        processor_size=out.input_size,
        notes=(*describe_told(out.told, "you"), *out.notes),
        failure=failure,
        output=output,
        usage=tuple(write_usage(subject, output, sizes)) if output else (),
    )


def judge_conversion(cell: MatrixVerdict) -> Verdict:
    """Exact, close or failed: where a known deviation applies, by what is left of the difference without it."""
    return worst([worst([point.verdict for point in result.decisive]) for result in cell.inputs])


def describe_cell(cell: MatrixVerdict) -> Judged:
    """What a cell came to."""
    return Judged(
        attention=cell.attention,
        device=cell.device,
        dtype=cell.dtype,
        verdict=str(judge_conversion(cell)),
        inputs=len(cell.inputs),
        points=sum(len(result.decisive) for result in cell.inputs),
        error_ratio=max(result.error_ratio for result in cell.inputs),
    )


def list_otherwise(subject: Subject, cells: Sequence[MatrixVerdict]) -> Iterator[Otherwise]:
    """Each entry of the ledger that showed, with how far off what this model returns is on each input."""
    ledger = {entry.name: entry for entry in subject.family.ledger}
    sizes: dict[str, dict[str, float]] = {}
    for cell in cells:
        for result in cell.inputs:
            for name in split_names(result.deviation):
                of_input = sizes.setdefault(name, {})
                of_input[result.name] = max(measure_returned(result), of_input.get(result.name, 0.0))
    for name, of_inputs in sizes.items():
        if any(of_inputs.values()):
            yield Otherwise(name, ledger[name].cause, ledger[name].remedy, of_inputs)


def measure_returned(result: InputVerdict) -> float:
    """How far off what the model returns is, at most, as it comes."""
    returned = [point for point in result.points if point.point.startswith(RETURNED)]
    return max((point.difference.max_abs for point in returned if point.difference), default=0.0)


def list_identical_sizes(subject: Subject, out: Conversion) -> tuple[int, ...]:
    """Of the sizes that concern its user (native, and what the processor makes), those without a deviation."""
    sizes = dict.fromkeys((out.spec.image_size, out.input_size))
    attention = subject.family.choose_attention()
    return tuple(
        size
        for size in sizes
        if subject.family.find_deviation(out.spec, (1, 3, size, size), "float32", attention) is None
    )


def write_usage(subject: Subject, output: str, sizes: Sequence[int]) -> Iterator[str]:
    """Lines that load model and processor; at a size that is identical, where the processor's own is not."""
    out, auto_class = subject.converted, TASKS[subject.converted.spec.task][1]
    path = Path(output)
    shown = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else output
    yield f"from transformers import AutoImageProcessor, {auto_class}"
    yield ""
    yield f'model = {auto_class}.from_pretrained("{shown}", attn_implementation="{subject.family.choose_attention()}")'
    changed = ""
    if sizes and out.input_size not in sizes:
        there = subject.family.build_image_processor(replace(out.spec, input_size=None), sizes[0])
        changed = "".join(f", {name}={there[name]}" for name in ("size", "crop_size") if name in there)
    pillow = 'backend="pil"' if transformers_major() > 4 else "use_fast=False"
    yield f'processor = AutoImageProcessor.from_pretrained("{shown}", {pillow}{changed})'


def as_plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as JSON has them."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: as_plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {str(key): as_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each) for each in value]
    return value
