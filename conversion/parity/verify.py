"""The parity body: one input through both models, judged at every capture point. The same for every family."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from conversion.parity.compare import CapturePoint, Inputs, OriginalRun, capture_hf, compare, note_differences
from conversion.parity.deviations import Deviation, counterfactual
from conversion.parity.verdict import PointVerdict, Verdict, worst


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
    """

    name: str
    verdict: Verdict
    shape: tuple[int, ...]
    points: tuple[PointVerdict, ...]
    deviation: str = ""
    counterfactual: tuple[PointVerdict, ...] = ()
    baked: int | None = None

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
    actual = capture_hf(converted, run.points, converted_inputs or run.inputs)
    shape = tuple(run.inputs.pixel_values.shape)
    if deviation is None:
        judged = compare(run, actual)
        return InputVerdict(name, worst([point.verdict for point in judged]), shape, judged)
    noted = note_differences(run, actual)
    found = worst([point.verdict for point in noted])
    if found is Verdict.EXACT:
        return InputVerdict(name, found, shape, noted)
    with counterfactual(deviation, run.original):
        agreed = compare(run.under(deviation.name, counterfactual_inputs), actual)
    verdict = found if worst([point.verdict for point in agreed]) is not Verdict.FAILED else Verdict.FAILED
    return InputVerdict(name, verdict, shape, noted, deviation.name, agreed)


def describe_failure(variant: str, where: str, results: Sequence[InputVerdict], points: Sequence[CapturePoint]) -> str:
    """Say what failed: for each input the first capture point that differs, by how much, and the keys that feed it."""
    sources = {point.name: point.sources for point in points}
    lines = [f"{variant} ({where}): not the same model."]
    for result in results:
        if result.verdict is not Verdict.FAILED:
            lines.append(f"  {result.name}: {result.verdict}")
            continue
        explained = f", not explained by the known deviation {result.deviation!r}" if result.deviation else ""
        lines.append(f"  {result.name}: failed{explained}")
        failed = [point for point in result.decisive if point.verdict is Verdict.FAILED]
        if not failed:
            continue
        first = failed[0]
        lines.append(f"    first of {len(failed)} failing capture points (of {len(result.decisive)}): {first.point}")
        lines.append(f"    {first.reason}")
        if first.difference:
            difference = first.difference
            lines.append(
                f"    converted against original: max abs {difference.max_abs:.3g}, RMS {difference.rms:.3g}, "
                f"max ULP {difference.max_ulp}"
            )
        lines.append(f"    fed by: {', '.join(sources.get(first.point, ())) or 'nothing of its own'}")
    return "\n".join(lines)
