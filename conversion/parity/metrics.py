"""How far two tensors are apart: max abs, RMS, and the exact distance in units in the last place (ULP)."""

from dataclasses import dataclass

import torch
from torch import Tensor

FARTHEST = torch.iinfo(torch.int64).max
"""ULP distance to a NaN, and the largest that is reported."""

_INTEGER_VIEW = {torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16,
                 torch.bfloat16: torch.int16}  # fmt: skip


@dataclass(frozen=True)
class Distance:
    """How far two tensors are apart, in their own unit."""

    max_abs: float
    rms: float


@dataclass(frozen=True)
class Difference(Distance):
    """The distance between two tensors of one shape and dtype; a NaN anywhere makes each figure NaN or the largest."""

    max_ulp: int


NO_DIFFERENCE = Difference(0.0, 0.0, 0)


def measure(expected: Tensor, actual: Tensor) -> Difference:
    """Measure how far ``actual`` is from ``expected``, both ``(...)`` of one shape and dtype, neither empty.

    Integers are their own units in the last place.
    """
    error = error_of(actual, expected.double())
    ulp = ulp_distance(expected, actual) if expected.is_floating_point() else (expected - actual).abs()
    return Difference(error.max_abs, error.rms, int(ulp.max()))


def error_of(tensor: Tensor, reference: Tensor) -> Distance:
    """Error of ``tensor`` ``(...)`` against a float64 ``reference`` of its shape."""
    difference = (tensor.double() - reference).abs_()
    return Distance(float(difference.max()), float(difference.square_().mean().sqrt()))


def is_bit_equal(expected: Tensor, actual: Tensor) -> bool:
    """Whether shape, dtype and every bit agree, the sign of zeros and the payload of NaNs included."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if not expected.is_floating_point():
        return expected.layout == actual.layout and torch.equal(expected, actual)
    integer = _INTEGER_VIEW[expected.dtype]
    return torch.equal(expected.contiguous().view(integer), actual.contiguous().view(integer))


def ulp_distance(expected: Tensor, actual: Tensor) -> Tensor:
    """How many representable numbers apart, elementwise.

    A metric on the numbers of one dtype: both zeros are the same number, neighbours are one apart, across zero as
    well; infinity is one beyond the largest finite number. Exact up to :data:`FARTHEST`, where it saturates (only
    float64 numbers of opposite sign are ever that far apart). A NaN is :data:`FARTHEST` from everything.

    Args:
        expected, actual: ``(...)`` of one shape and one floating dtype.

    Returns:
        ``(...)``, int64.
    """
    if expected.dtype != actual.dtype:
        raise TypeError(f"ULP distance needs one dtype, not {expected.dtype} and {actual.dtype}")
    left, right = _number_line(expected), _number_line(actual)
    distance = (left - right).abs_()
    # opposite signs can overflow int64; their distance is the sum of the magnitudes
    overflow = ((left < 0) != (right < 0)) & (left.abs() > FARTHEST - right.abs())
    return distance.masked_fill_(overflow | expected.isnan() | actual.isnan(), FARTHEST)


def _number_line(tensor: Tensor) -> Tensor:
    """Place every number on the integers, in order, zeros at 0: floats are sign and magnitude, integers are not."""
    integer = _INTEGER_VIEW[tensor.dtype]
    bits = tensor.contiguous().view(integer)
    magnitude = (bits & torch.iinfo(integer).max).long()
    return torch.where(bits < 0, -magnitude, magnitude)
