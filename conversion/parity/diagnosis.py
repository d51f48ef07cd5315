"""What failed, where, by how much, what feeds it, and which known fault explains it."""

from collections.abc import Sequence

from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict


def describe_failure(variant: str, where: str, results: Sequence[InputVerdict]) -> str:
    """Say what failed: for each input the first capture point that differs, by how much, and the keys that feed it."""
    lines = [f"{variant} ({where}): not the same model."]
    for result in results:
        if result.verdict is not Verdict.FAILED:
            lines.append(f"  {result.name}: {result.verdict}")
            continue
        explained = f", not explained by the known deviation {result.deviation!r}" if result.deviation else ""
        lines.append(f"  {result.name}: failed{explained}")
        failed = [point for point in result.decisive if point.verdict is Verdict.FAILED]
        if not failed or not result.evidence:
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
        lines.append(f"    fed by: {', '.join(result.evidence.point.sources) or 'nothing of its own'}")
    return "\n".join(lines)
