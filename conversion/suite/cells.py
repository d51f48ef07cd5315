"""A cell of the matrix, verified: every input through original and converted model, and what goes side by side."""

import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from conversion.artifact.card import MatrixVerdict
from conversion.families.base import Family, Spec
from conversion.families.variants import VARIANTS
from conversion.parity.compare import Local
from conversion.parity.deviations import Deviation, combine
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs, merge_stages
from conversion.parity.precision import Casts
from conversion.parity.sharing import Held, share_tensors
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from conversion.suite.inputs import InputCase, as_batch, draw_inputs, group_inputs, open_photo, select_few
from conversion.suite.progress import say
from conversion.suite.subject import Cell, Subject
from conversion.suite.threads import limit_threads


@dataclass(frozen=True)
class CellModel:
    """A converted model in a cell, in the dtype and on the device of all that go side by side.

    Attributes:
        cases: the inputs that it is verified on.
        models: by the image size that they are baked for.
    """

    subject: Subject
    attention: str
    cases: Sequence[InputCase]
    models: dict[int | None, nn.Module]


def verify_cell(subject: Subject, cell: Cell) -> MatrixVerdict:
    """The verdict on one cell of a variant, on every input.

    With it those that differ in attention alone are verified, and those of the classifier on the same backbone: what
    the original computes is the same for all of them, and the larger part of the work.
    """
    if cell not in subject.verified:
        beside = _find_beside(subject, cell)
        try:
            _verify_beside([subject, *beside], cell)
        except Exception:
            if not beside:
                raise
            _say_alone([subject, *beside], cell, traceback.format_exc())
    if cell not in subject.verified:
        _verify_beside([subject], cell)
    return subject.verified.pop(cell)


def _say_alone(subjects: Sequence[Subject], cell: Cell, error: str) -> None:
    """Say what went wrong side by side, and not whose error it is: that shows when each is verified alone."""
    names = " and ".join(subject.variant for subject in subjects)
    text = f"{names}, {', '.join(cell)}: cannot be verified side by side; each is verified alone.\n{error}"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _find_beside(subject: Subject, cell: Cell) -> list[Subject]:
    """The classifier, if it has that cell, too; not on an accelerator, where memory is dearer than time."""
    classifier = subject.classifier
    is_cheap = torch.device(cell[0]).type == "cpu"
    return [classifier] if classifier and is_cheap and cell in classifier.cells else []


def _verify_beside(subjects: Sequence[Subject], cell: Cell) -> None:
    """Verify a cell of all these, and those that differ in attention alone."""
    device, dtype, _ = cell
    inputs = subjects[0].inputs
    held: Held = {}
    models = [
        _load(subject, (device, dtype, attention), held)
        for subject in subjects
        if subject.inputs == inputs
        for attention in _list_attentions(subject, cell)
    ]
    results: list[list[InputVerdict]] = [[] for _ in models]
    for cases in group_inputs(inputs):
        for case, row in zip(cases, verify_cases(models, cases, device, dtype), strict=True):
            of_case = [found for model, found in zip(models, results, strict=True) if case in model.cases]
            for earlier, result in zip(of_case, row, strict=True):
                # the first failure is the one that is explained; of others, tensors would be kept for nothing
                has_evidence = any(other.evidence for other in earlier)
                earlier.append(replace(result, evidence=None) if has_evidence else result)
    for model, of_model in zip(models, results, strict=True):
        subject, attention = model.subject, model.attention
        original = subject.describe_reference()
        verdict = MatrixVerdict(device, dtype, attention, subject.request.seed, tuple(of_model), original)
        subject.verified[device, dtype, attention] = verdict


def _load(subject: Subject, cell: Cell, held: Held) -> CellModel:
    """The models of a cell, with the weights of those that are held already."""
    cases = _select_inputs(subject, cell)
    sizes = dict.fromkeys(case.baked for case in cases)
    models = {baked: share_tensors(subject.load(baked, *cell), held) for baked in sizes}
    return CellModel(subject, cell[-1], cases, models)


def _select_inputs(subject: Subject, cell: Cell) -> list[InputCase]:
    """All inputs; or the small ones, where the cell is verified beside that of the attention that can be exact."""
    device, dtype, attention = cell
    first = subject.family.choose_attention()
    is_second = attention != first and (device, dtype, first) in subject.cells
    if subject.request.is_thorough or not is_second:
        return subject.inputs
    return select_few(subject.inputs, subject.converted.spec.patch_size)


def _list_attentions(subject: Subject, cell: Cell) -> list[str]:
    """That of the cell, and of all that differ from it in attention alone."""
    device, dtype, attention = cell
    beside = [other for *place, other in subject.cells if place == [device, dtype]]
    return list(dict.fromkeys([attention, *beside]))


def verify_cases(
    models: Sequence[CellModel], cases: Sequence[InputCase], device: str, dtype: str
) -> list[list[InputVerdict]]:
    """Verify some inputs, side by side: of each, a verdict for each model that is verified on it."""
    names = dict.fromkeys(model.subject.variant for model in models)
    attentions = dict.fromkeys(model.attention for model in models)
    where = f"{', '.join(names)}: {', '.join([device, dtype, *attentions])}: {', '.join(case.name for case in cases)}"
    casts = Casts() if len(cases) > 1 else Casts(limit=0)  # one input's pass comes to every weight once
    plans = [_prepare(models, case, device, dtype, casts) for case in cases]
    with limit_threads(models[0].subject.converted.spec.embed_dim):
        results = verify_together(plans, _choose_local(models), lambda stage: say(f"{where}: {stage}"))
    return [[replace(result, baked=case.baked) for result in row] for case, row in zip(cases, results, strict=True)]


def _choose_local(models: Sequence[CellModel]) -> Local:
    """Measure local errors only for a card or a report, and of no slow model: they take a seventh of the time."""
    variants, request = {model.subject.variant for model in models}, models[0].subject.request
    is_slow = any(VARIANTS[name].slow for name in variants & VARIANTS.keys())
    is_kept = any((request.artifacts, request.output, request.report))
    return Local.EVERYWHERE if is_kept and not is_slow else Local.WHERE_FAILED


def _prepare(models: Sequence[CellModel], case: InputCase, device: str, dtype: str, casts: Casts) -> InputPlan:
    """One input, all that is verified on it, and the original that computes for all of them.

    A classifier's computes all that its backbone's does.
    """
    whole = next((one.subject for one in models if one.subject.converted.spec.num_classes), models[0].subject)
    inputs, counterfactual_inputs = draw_inputs_of(whole, case)
    candidates = [_build_candidate(model, case, dtype) for model in models if case in model.cases]
    stages = merge_stages(*(candidate.stages or () for candidate in candidates))
    run = OriginalRun(whole.original(device), stages, inputs, getattr(torch, dtype), casts=casts)
    return InputPlan(case.name, run, candidates, counterfactual_inputs)


def _build_candidate(model: CellModel, case: InputCase, dtype: str) -> Candidate:
    subject, family = model.subject, model.subject.family
    spec = replace(subject.converted.spec, image_size=case.baked or subject.converted.spec.image_size)
    deviation = find_deviation_on(case, family, spec, dtype, model.attention)
    inputs = Inputs(subject.processed_photo) if case.photo else None
    return Candidate(model.models[case.baked], deviation, family.list_stages(spec, masked=case.masked), inputs)


def find_deviation_on(case: InputCase, family: Family[Any], spec: Spec, dtype: str, attention: str) -> Deviation | None:
    """What transformers does otherwise on an input: in the model, and with the photo."""
    deviation = family.find_deviation(spec, case.shape, dtype, attention)
    if not case.photo:
        return deviation
    return combine(deviation, family.find_image_deviation(spec, open_photo(spec).size, case.height))


def draw_inputs_of(subject: Subject, case: InputCase) -> tuple[Inputs, Inputs | None]:
    """The original's input; and the one under the counterfactual, where it comes another way."""
    if case.photo:
        return draw_photo(subject, case), draw_photo(subject, case, as_processor=True)
    return draw_inputs(case, subject.converted.spec.patch_size, subject.request.seed), None


def draw_photo(subject: Subject, case: InputCase, *, as_processor: bool = False) -> Inputs:
    """The photo through the original's transform, or, its counterfactual, through one that does as the processor."""
    spec = subject.converted.spec
    transform = subject.family.images.build_transform(spec, case.height, as_processor=as_processor)
    return as_batch(transform(open_photo(spec)))
