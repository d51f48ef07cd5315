"""The parity body: one input through both models, judged at every capture point. The same for every family."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain

from torch import Tensor, nn

from conversion.parity.alignment import copy_aligned, find_misaligned
from conversion.parity.compare import Comparison, ConvertedRun, Evidence, Local, compare
from conversion.parity.deviations import Deviation
from conversion.parity.metrics import NO_DIFFERENCE, Distance, Likeness
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs, Stage
from conversion.parity.verdict import PointVerdict, Verdict, grant_loss, worst


@dataclass(frozen=True)
class InputVerdict:
    """The verdict on one input.

    Attributes:
        name: of the input, as ``native`` or ``masked``.
        verdict: the worst of its points'.
        shape: of its pixel values, ``(B, channels, height, width)``.
        masked: whether patches of it are masked.
        points: what decides: the comparison; where a known deviation applies, the one under its counterfactual.
        deviation: names of the ledger's entries that apply and show, if any do.
        otherwise: capture point to how far it is off with that deviation in force, where not every bit agrees.
        baked: the image size of the artifact that was compared in its place, with position embeddings baked for that
            size. None where it was the artifact itself.
        evidence: from where it first failed, if it did.
        aligned: whether it is exact with the weights copied to aligned memory, and not where they were.
        likeness: of what a model that may be lossy returns, by capture point, where not every bit agrees.
    """

    name: str
    verdict: Verdict
    shape: tuple[int, ...]
    points: tuple[PointVerdict, ...]
    deviation: str = ""
    otherwise: Mapping[str, Distance] = field(default_factory=dict)
    baked: int | None = None
    masked: bool = False
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    aligned: bool = False
    likeness: Mapping[str, Likeness] = field(default_factory=dict)

    @property
    def error_ratio(self) -> float:
        """See :func:`find_error_ratio`."""
        return find_error_ratio(self.points)


def find_error_ratio(points: Iterable[PointVerdict]) -> float:
    """The largest RMS error at a capture point, as a multiple of the original's own; 1 where all is exact."""
    ratios = (point.error_ratio for point in points)
    return max((ratio for ratio in ratios if ratio is not None), default=1.0)


@dataclass(frozen=True)
class Candidate:
    """A converted model that is to be verified.

    Attributes:
        stages: where it is looked at, if those are not all that the original is.
        inputs: what it is given, where that came another way than the original's (from an image processor).
        deviation: the ledger's entry that applies to it. Then the two may differ, and must agree under the
            counterfactual. That the deviation is still there is not asked here (some weights and dtypes do not show
            it), but in the tests of each family's ledger.
        computed: capture point to what it computed, where a runtime has run it already; then there is no model, and
            the verdict may be lossy.
    """

    converted: nn.Module | None
    deviation: Deviation | None = None
    stages: Sequence[Stage] | None = None
    inputs: Inputs | None = None
    computed: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def may_lose(self) -> bool:
        """Whether what is measured too large is lossy, not failed."""
        return self.converted is None


@dataclass(frozen=True)
class InputPlan:
    """One input, and all that is to be verified on it.

    Attributes:
        name: of the input.
        run: what the original computes from it.
        counterfactual_inputs: what the original is given under the counterfactual, where the deviation lies there.
    """

    name: str
    run: OriginalRun
    candidates: Sequence[Candidate]
    counterfactual_inputs: Inputs | None = None


def verify_together(
    plans: Sequence[InputPlan],
    measures_local: Local = Local.EVERYWHERE,
    at: Callable[[str], object] | None = None,
) -> list[list[InputVerdict]]:
    """Run several converted models on several inputs, all side by side, and judge each.

    On one input they share what the original computes; on all, what is read and cast of the weights. What is not exact
    and has weights that are not aligned is run once more on aligned copies of them; if it is exact then, that counts.

    Args:
        at: told the name of every stage that is begun.

    Returns:
        of each plan, a verdict for each of its candidates.
    """
    results = _verify_once(plans, measures_local, at)
    again, places = _align(plans, results)
    if again:
        repeated = _verify_once(again, measures_local, at and (lambda stage: at(f"{stage}, weights aligned")))
        for (row, column), result in zip(places, chain.from_iterable(repeated), strict=True):
            if result.verdict is Verdict.EXACT:
                results[row][column] = replace(result, aligned=True)
    return results


def _align(
    plans: Sequence[InputPlan], results: Sequence[Sequence[InputVerdict]]
) -> tuple[list[InputPlan], list[tuple[int, int]]]:
    """What is to be run once more, with aligned copies of the weights; and the place of each candidate in it."""
    copy, again, places = cache(copy_aligned), [], []
    for row, (plan, verdicts) in enumerate(zip(plans, results, strict=True)):
        run, dtype = plan.run, plan.run.dtype
        is_inexact = any(verdict.verdict is not Verdict.EXACT for verdict in verdicts)
        is_original_off = is_inexact and find_misaligned(run.original, dtype)
        columns = [
            column
            for column, (candidate, verdict) in enumerate(zip(plan.candidates, verdicts, strict=True))
            if verdict.verdict is not Verdict.EXACT
            and candidate.converted is not None
            and (is_original_off or find_misaligned(candidate.converted, dtype))
        ]
        if columns:
            chosen = [plan.candidates[column] for column in columns]
            aligned = [replace(each, converted=each.converted and copy(each.converted)) for each in chosen]
            run = replace(run, original=copy(run.original))
            again.append(replace(plan, run=run, candidates=aligned))
            places += [(row, column) for column in columns]
    return again, places


def _verify_once(
    plans: Sequence[InputPlan], measures_local: Local, at: Callable[[str], object] | None
) -> list[list[InputVerdict]]:
    comparisons = [_list_comparisons(plan, measures_local) for plan in plans]
    runs = [
        ConvertedRun(
            candidate.converted,
            candidate.inputs or plan.run.inputs,
            candidate.stages or plan.run.stages,
            held,
            candidate.computed,
        )
        for plan, row in zip(plans, comparisons, strict=True)
        for candidate, held in zip(plan.candidates, row, strict=True)
    ]
    compare(*runs, at=at)
    return [
        [_conclude(plan, candidate, held) for candidate, held in zip(plan.candidates, row, strict=True)]
        for plan, row in zip(plans, comparisons, strict=True)
    ]


class _Runs:
    """The runs of the original that a comparison needs: as it is, and under each counterfactual, one for all."""

    def __init__(self, plain: OriginalRun, counterfactual_inputs: Inputs | None) -> None:
        self.plain, self._inputs = plain, counterfactual_inputs or plain.inputs
        self._counterfactuals: list[OriginalRun] = []

    def under(self, attributes: Mapping[str, object]) -> OriginalRun:
        found = next((run for run in self._counterfactuals if run.attributes == attributes), None)
        if found is None:
            found = replace(self.plain, inputs=self._inputs, attributes=attributes)
            self._counterfactuals.append(found)
        return found


def _list_comparisons(plan: InputPlan, measures_local: Local) -> list[list[Comparison]]:
    """Of each candidate: one with the original as it is, and, where a deviation applies, one under its counterfactual.

    The latter then judges.
    """
    run = plan.run.side_by_side()
    runs, comparisons = _Runs(run, plan.counterfactual_inputs), []
    for candidate in plan.candidates:
        if candidate.deviation is None:
            comparisons.append([Comparison(run, measures_local=measures_local)])
            continue
        noted = Comparison(run, is_judging=False, measures_local=Local.NOWHERE)
        under = runs.under(candidate.deviation.original_attributes)
        comparisons.append([noted, Comparison(under, measures_local=measures_local)])
    return comparisons


def _conclude(plan: InputPlan, candidate: Candidate, comparisons: Sequence[Comparison]) -> InputVerdict:
    """The verdict on an input; see :func:`_list_comparisons`."""
    *noting, judging = comparisons
    deviation = candidate.deviation
    incomparable = {point.point: point for noted in noting for point in noted.points}
    otherwise = {name: size for noted in noting for name, size in noted.noted.items()}
    points = tuple(incomparable.get(point.point, point) for point in judging.points)
    evidence = judging.evidence
    if candidate.may_lose:
        points = tuple(map(grant_loss, points))
    if noting and not incomparable and not otherwise:  # it does not show, and every bit agrees without it
        points = tuple(PointVerdict(each.point, Verdict.EXACT, NO_DIFFERENCE) for each in points)
        deviation = evidence = None
    return InputVerdict(
        plan.name,
        worst([point.verdict for point in points]),
        tuple(plan.run.inputs.pixel_values.shape),
        points,
        deviation.name if deviation else "",
        otherwise,
        masked=plan.run.inputs.bool_masked_pos is not None,
        evidence=evidence,
        likeness=judging.likeness if candidate.may_lose else {},
    )
