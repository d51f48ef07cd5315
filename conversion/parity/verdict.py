"""What a comparison comes to: exact, close, lossy or failed. Every tolerance of a verdict is in this file."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

import torch
from torch import Tensor

from conversion.parity.metrics import NO_DIFFERENCE, Distance, error_of, is_bit_equal, range_of, size_of

ERROR_RATIO = 2.0
"""How much larger than the original's own rounding error the converted model's may be.

Two evaluations of one function that round at different places have errors of the same size, independent of each
other; their ratio scatters around 1 (1.0 to 1.2 at the worst capture point of all official models but three: see
docs/judging.md), and twice is out of reach of that scatter.
"""

CHANCE = 6.0
"""Standard deviations that chance is allowed in that ratio, where a tensor has so few elements that twice is not rare.

The ratio of two RMS errors over n elements each scatters by chance: its logarithm with a standard deviation of about
1 / sqrt(n) (the F distribution, for large n). Six of them exceed twice below 75 elements: it is 6.7 for ten logits.
The largest of n errors scatters more: its logarithm with about pi / sqrt(6) / (2 ln n) (the Gumbel distribution, which
the largest of n normal numbers follows), the ratio of two with sqrt(2) times that. Six of them exceed twice below 2,600
elements: it is 11 for ten logits, 2.2 for a thousand, and without effect on the blocks of an official model.
"""

FLOOR_MAX_ULP, FLOOR_RMS_ULP = 4.0, 0.5
"""What the largest error and the RMS error may always be, in units of the dtype's epsilon at the tensor's own scale.

Where the original happens to round hardly at all (a tensor of few elements), the ratio alone would demand more than
roundings can give: half an epsilon each, for a handful of operations since the last norm, at one element; less than
half an epsilon in the mean. The floors stand in place of the ratio where they are larger; they are not added to it.
"""

OTHER_RUNS = 32
"""How often the original is run with other roundings where a converted model's error exceeds what is allowed.

Chance is reckoned above as if the errors of elements were independent. In a narrow model they are not: the layer norm
of a token of four channels magnifies all its errors where they hardly vary, and equal tokens share every rounding. So
few errors decide, and the original's own may be small by luck. Then the original is asked how large they come out
otherwise: it runs with its roundings drawn anew (:mod:`conversion.parity.roundings`), and the largest error of all
these, its own included, stands in the place of its own.

If the converted model is the same function, its error is one more draw from what these were drawn from, with all that
they have in common: each of the 34 is as likely to be the largest. To be failed it must be *twice* the largest of the
other 33. Where one normal number decides, the worst case, that happens once in 7,000 times; where two do, once in
67,000; where four do, once in two million.
"""

FEW_RUNS, HOPELESS = 2, 1000.0
"""After so many runs, none is asked any more where the error is so many times the largest: it is not of their kind."""


OVERFLOW = "the original has NaN or Inf"
"""The reason why nothing can be concluded of a point: the original itself computes no numbers there."""


@dataclass(frozen=True)
class Tolerances:
    """What a difference may come to and still be rounding; see the constants."""

    error_ratio: float = ERROR_RATIO
    chance: float = CHANCE
    floor_max_ulp: float = FLOOR_MAX_ULP
    floor_rms_ulp: float = FLOOR_RMS_ULP


OURS = Tolerances()
"""Those of every verdict; others are for judging recorded figures again."""


class Verdict(StrEnum):
    """The outcome at a capture point, of an input, of a test: the worst of its parts, in this order."""

    EXACT = "exact"
    CLOSE = "close"
    LOSSY = "lossy"
    FAILED = "failed"


def worst(verdicts: "Sequence[Verdict]") -> Verdict:
    """The worst of several; of none, failed: nothing was compared."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.FAILED)


def grant_loss(point: "PointVerdict") -> "PointVerdict":
    """The verdict on what may lose precision, as an export does: an error that was measured makes it lossy, not failed.

    What cannot be compared is failed as before: another shape, no number, nothing reached.
    """
    is_measured = point.verdict is Verdict.FAILED and point.converted_error is not None
    return replace(point, verdict=Verdict.LOSSY) if is_measured else point


def rank(point: "PointVerdict") -> tuple[int, float]:
    """How bad a capture point is: the worse the verdict, then the larger the error beside what is allowed, the more."""
    order = list(Verdict).index(point.verdict)
    if point.converted_error is None or not point.allowed or not point.allowed.rms:
        return order, 0.0
    return order, point.converted_error.rms / point.allowed.rms


@dataclass(frozen=True)
class PointVerdict:
    """The verdict at one capture point.

    Attributes:
        difference: converted against original, each on its own activations; None where they cannot be
            subtracted.
        local: the same without what came before: the converted stage fed the original's input; None where the stage
            cannot be run by itself, or nobody asked.
        original_error, converted_error: each against the float64 yardstick; None where exactness made it needless.
        scatter: the largest that the original's error is with other roundings, too; None where nobody had to ask.
        allowed: the largest ``converted_error`` that is close.
        scale: of the yardstick itself, its distance from zero.
        elements: of the tensor.
        reason: why it failed, or is lossy.
    """

    point: str
    verdict: Verdict
    difference: Distance | None = None
    local: Distance | None = None
    original_error: Distance | None = None
    converted_error: Distance | None = None
    allowed: Distance | None = None
    scale: Distance | None = None
    elements: int | None = None
    reason: str = ""
    scatter: Distance | None = None

    @property
    def error_ratio(self) -> float | None:
        """The converted model's RMS error as a multiple of the original's own; None where that was not measured."""
        own, converted = self.original_error, self.converted_error
        return converted.rms / own.rms if own and converted and own.rms else None


@dataclass(frozen=True)
class Yardstick:
    """What decides whether a difference is rounding.

    Attributes:
        reference: the original's value in float64, ``(...)``.
        original_error: the rounding error of the original itself in the dtype under test.
    """

    reference: Tensor
    original_error: Distance


def judge(
    point: str,
    expected: Tensor,
    actual: Tensor,
    yardstick: Callable[[], Yardstick],
    others: Callable[[], Iterator[Distance]] = lambda: iter(()),
    find_zero_source: Callable[[], str | None] = lambda: None,
) -> PointVerdict:
    """Judge one capture point.

    Args:
        expected: ``(...)``, the original's.
        actual: ``(...)``, the converted model's.
        yardstick: called only where the two are not bit for bit equal.
        others: the original's errors with other roundings, one run after the other; called only where the converted
            model's error exceeds what its own allows.
        find_zero_source: names weights that are zero and make it so that both are all zeros; called only there.
    """
    reason = find_vacuity(expected, actual, find_zero_source)
    if reason:
        return PointVerdict(point, Verdict.FAILED, reason=reason)
    if is_bit_equal(expected, actual):
        return PointVerdict(point, Verdict.EXACT, NO_DIFFERENCE)
    difference = error_of(actual, expected)
    if not expected.is_floating_point():
        return PointVerdict(point, Verdict.FAILED, difference, reason="counters that are not the same")
    held_against = yardstick()
    reference, original_error = held_against.reference, held_against.original_error
    if reference.shape != expected.shape:
        return PointVerdict(point, Verdict.FAILED, difference, reason="the float64 yardstick has another shape")
    scale, converted_error = size_of(reference), error_of(actual, reference)
    of_errors = partial(allow, scale=scale, elements=reference.numel(), eps=torch.finfo(expected.dtype).eps)
    allowed, scatter = of_errors(original_error), None
    if find_excess(converted_error, allowed):
        for scatter in accumulate_scatter(original_error, converted_error, others()):
            allowed = of_errors(scatter)
            if not find_excess(converted_error, allowed):
                break
    reason = find_excess(converted_error, allowed)
    verdict = Verdict.FAILED if reason else Verdict.CLOSE
    figures = difference, None, original_error, converted_error, allowed, scale, reference.numel()
    return PointVerdict(point, verdict, *figures, reason or "", scatter)


def accumulate_scatter(own: Distance, converted: Distance, others: Iterator[Distance]) -> Iterator[Distance]:
    """The largest error so far, the original's own included, after each run with other roundings.

    A run that overflowed says nothing. No more are asked where the converted model's error is out of all proportion.
    """
    largest = own
    for count, error in enumerate(others, start=1):
        if math.isfinite(error.max_abs) and math.isfinite(error.rms):
            largest = Distance(max(largest.max_abs, error.max_abs), max(largest.rms, error.rms))
        yield largest
        is_hopeless = converted.max_abs > HOPELESS * largest.max_abs or converted.rms > HOPELESS * largest.rms
        if count >= FEW_RUNS and is_hopeless:
            return


def allow(
    original_error: Distance, scale: Distance, elements: int, eps: float, tolerances: Tolerances = OURS
) -> Distance:
    """The largest error that is close.

    Args:
        original_error: the original's own, or the largest that it is with other roundings.
        scale, elements: as in :class:`PointVerdict`.
        eps: of the dtype of the comparison.
    """
    rms_ratio, max_ratio = allow_for_chance(elements, tolerances)
    return Distance(
        max(max_ratio * original_error.max_abs, tolerances.floor_max_ulp * eps * scale.max_abs),
        max(rms_ratio * original_error.rms, tolerances.floor_rms_ulp * eps * scale.rms),
    )


def find_excess(error: Distance, allowed: Distance) -> str | None:
    """In what an error exceeds what is allowed; None where it does not."""
    pairs = (("RMS", error.rms, allowed.rms), ("max", error.max_abs, allowed.max_abs))
    excess = [f"{name} error {size:.3g} exceeds {bound:.3g}" for name, size, bound in pairs if not size <= bound]
    return "; ".join(excess) or None


def judge_again(point: PointVerdict, eps: float, tolerances: Tolerances = OURS) -> Verdict:
    """The verdict that recorded figures come to, without the tensors.

    Args:
        eps: of the dtype of the comparison.
    """
    if point.converted_error and point.original_error and point.scale and point.elements:
        own = point.scatter or point.original_error
        allowed = allow(own, point.scale, point.elements, eps, tolerances)
        return Verdict.FAILED if find_excess(point.converted_error, allowed) else Verdict.CLOSE
    if point.difference is None or point.reason:
        return Verdict.FAILED
    return Verdict.EXACT if point.difference == NO_DIFFERENCE else Verdict.FAILED


def allow_for_chance(num_elements: int, tolerances: Tolerances = OURS) -> tuple[float, float]:
    """How much larger than the original's the RMS and the largest error of this many elements may be."""
    rms_scatter = 1 / math.sqrt(num_elements)
    max_scatter = math.sqrt(2) * math.pi / math.sqrt(6) / (2 * math.log(max(num_elements, 2)))
    rms_ratio = max(tolerances.error_ratio, math.exp(tolerances.chance * rms_scatter))
    return rms_ratio, max(rms_ratio, math.exp(tolerances.chance * max_scatter))


def find_vacuity(
    expected: Tensor, actual: Tensor, find_zero_source: Callable[[], str | None] = lambda: None
) -> str | None:
    """Why this comparison would say nothing; None when it says something.

    Zeros on both sides say something where weights that are zero make them so: that the converted model has them, too.
    """
    if expected.shape != actual.shape:
        return f"shapes differ: original {tuple(expected.shape)}, converted {tuple(actual.shape)}"
    if expected.dtype != actual.dtype:
        return f"dtypes differ: original {expected.dtype}, converted {actual.dtype}"
    if not expected.numel():
        return "nothing to compare: no elements"
    ranges = {"original": range_of(expected), "converted": range_of(actual)}
    for name, found in ranges.items():
        if not all(map(math.isfinite, found)):
            return OVERFLOW if name == "original" else "the converted has NaN or Inf"
    if expected.is_floating_point() and ranges["original"] == (0.0, 0.0):
        is_told = ranges["converted"] == (0.0, 0.0) and find_zero_source()
        return None if is_told else "nothing to compare: all zeros"
    return None
