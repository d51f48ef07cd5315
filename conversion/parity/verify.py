"""The parity body: one input through both models, judged at every capture point. The same for every family."""

from dataclasses import dataclass, field, replace

from torch import nn

from conversion.parity.compare import Comparison, Evidence, Local, OriginalRun, compare
from conversion.parity.deviations import Deviation
from conversion.parity.points import Inputs
from conversion.parity.verdict import PointVerdict, Verdict


@dataclass(frozen=True)
class InputVerdict:
    """The verdict on one input.

    Attributes:
        name: of the input, as ``native`` or ``masked``.
        shape: of its pixel values, ``(B, 3, height, width)``.
        points: the comparison as it came out.
        deviation: name of the ledger's entry that applies, if one does.
        counterfactual: the same comparison with that entry's counterfactual in force.
        baked: the image size of a twin of the artifact that was compared in its place, with position embeddings
            baked for that size; None where it was the artifact itself.
        evidence: from where it first failed, if it did.
    """

    name: str
    verdict: Verdict
    shape: tuple[int, ...]
    points: tuple[PointVerdict, ...]
    deviation: str = ""
    counterfactual: tuple[PointVerdict, ...] = ()
    baked: int | None = None
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    @property
    def decisive(self) -> tuple[PointVerdict, ...]:
        """The points that decide: those under the counterfactual where a known deviation applies."""
        return self.counterfactual or self.points

    @property
    def max_ulp(self) -> int:
        """The largest ULP distance at a deciding capture point."""
        return max((point.difference.max_ulp for point in self.decisive if point.difference), default=0)

    @property
    def error_ratio(self) -> float:
        """The largest RMS error at a deciding capture point, as a multiple of the original's own; 1 where exact."""
        ratios = [
            point.converted_error.rms / point.original_error.rms
            for point in self.decisive
            if point.converted_error and point.original_error and point.original_error.rms
        ]
        return max(ratios, default=1.0)


def verify_input(
    name: str,
    run: OriginalRun,
    converted: nn.Module,
    deviation: Deviation | None = None,
    converted_inputs: Inputs | None = None,
    counterfactual_inputs: Inputs | None = None,
    measures_local: Local = Local.EVERYWHERE,
) -> InputVerdict:
    """Run the converted model on one input and judge it against what the original computes.

    Args:
        run: the original's.
        deviation: the ledger's entry that applies. Then the two may differ, and must agree under the counterfactual.
            That the deviation is still there is not asked here (some weights and dtypes do not show it), but in
            the tests of each family's ledger.
        converted_inputs: what the converted model is given, where that came another way (an image processor's).
        counterfactual_inputs: what the original is given under the counterfactual, where the deviation lies there.
    """
    inputs, shape = converted_inputs or run.inputs, tuple(run.inputs.pixel_values.shape)
    if deviation is None:
        judged = Comparison(run, measures_local=measures_local)
        compare(converted, inputs, judged)
        return InputVerdict(name, judged.verdict, shape, tuple(judged.points), evidence=judged.evidence)
    noted = Comparison(run, is_judging=False, measures_local=Local.NOWHERE)
    agreed = Comparison(
        replace(run, inputs=counterfactual_inputs or run.inputs, attributes=deviation.original_attributes),
        measures_local=measures_local,
    )
    compare(converted, inputs, noted, agreed)
    if noted.verdict is Verdict.EXACT:
        return InputVerdict(name, noted.verdict, shape, tuple(noted.points))
    verdict = Verdict.FAILED if agreed.verdict is Verdict.FAILED else noted.verdict
    points, counterfactual = tuple(noted.points), tuple(agreed.points)
    return InputVerdict(
        name, verdict, shape, points, deviation.name, counterfactual, evidence=agreed.evidence or noted.evidence
    )
