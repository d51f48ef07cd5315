"""How far two tensors are apart: max abs, RMS, and the exact distance in units in the last place (ULP)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

FARTHEST = torch.iinfo(torch.int64).max
"""ULP distance to a NaN, and the largest that is reported."""

CHUNK = 2**17
"""Elements measured at a time: what is computed on the way then stays in the processor's cache."""

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
    error = error_of(actual, expected)
    ulp = max(int(_largest(_count_between(*pair, error))) for pair in _pair_chunks(expected, actual))
    return Difference(error.max_abs, error.rms, ulp)


def error_of(tensor: Tensor, reference: Tensor) -> Distance:
    """Error of ``tensor`` ``(...)`` against a ``reference`` of its shape, computed in float64."""
    largest, squares = zip(*(_error_of_chunk(*pair) for pair in _pair_chunks(tensor, reference)), strict=True)
    mean_square = sum(squares) / tensor.numel()  # NaN in a chunk stays NaN
    return Distance(math.nan if math.isnan(mean_square) else max(largest), math.sqrt(mean_square))


def size_of(tensor: Tensor) -> Distance:
    """Distance of ``tensor`` ``(...)`` from zero, in its own precision."""
    return Distance(_largest(tensor), float(torch.linalg.vector_norm(tensor)) / math.sqrt(tensor.numel()))


def range_of(tensor: Tensor) -> tuple[float, float]:
    """The smallest and the largest element; NaN if there is one."""
    smallest, largest = tensor.aminmax()
    return float(smallest), float(largest)


def is_bit_equal(expected: Tensor, actual: Tensor) -> bool:
    """Whether shape, dtype and every bit agree, the sign of zeros and the payload of NaNs included."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if not expected.is_floating_point():
        return expected.layout == actual.layout and torch.equal(expected, actual)
    return torch.equal(*_as_integers(expected.contiguous().flatten(), actual.contiguous().flatten()))


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
    return _line_distance(expected, actual).abs_().masked_fill_(expected.isnan() | actual.isnan(), FARTHEST)


def _as_integers(*tensors: Tensor) -> list[Tensor]:
    """Flat tensors of one dtype as integers: of 64 bits where these fit, which are compared twice as fast as 32."""
    fit = all(tensor.nbytes % 8 == 0 and tensor.data_ptr() % 8 == 0 for tensor in tensors)
    fit &= all(tensor.storage_offset() * tensor.element_size() % 8 == 0 for tensor in tensors)
    integer = torch.int64 if fit else _INTEGER_VIEW[tensors[0].dtype]
    return [tensor.view(integer) for tensor in tensors]


def _pair_chunks(left: Tensor, right: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    if left.numel() <= CHUNK:
        return iter([(left, right)])
    return zip(left.flatten().split(CHUNK), right.flatten().split(CHUNK), strict=True)


def _error_of_chunk(tensor: Tensor, reference: Tensor) -> tuple[float, float]:
    difference = tensor.double().flatten() - reference.double().flatten()
    return _largest(difference), float(difference.dot(difference))


def _largest(tensor: Tensor) -> float:
    """The largest magnitude; NaN if there is one. An integer stays one."""
    smallest, largest = tensor.aminmax()
    magnitudes = abs(smallest.item()), abs(largest.item())
    return max(magnitudes, key=lambda value: (math.isnan(value), value))


def _count_between(expected: Tensor, actual: Tensor, error: Distance) -> Tensor:
    if not expected.is_floating_point():
        return expected - actual
    has_nan = math.isnan(error.max_abs)  # or the difference of two infinities
    return ulp_distance(expected, actual) if has_nan else _line_distance(expected, actual)


def _line_distance(expected: Tensor, actual: Tensor) -> Tensor:
    """How many places apart on the number line, with a sign; saturated where int64 overflows. Of no NaN."""
    left, right = _number_line(expected).long(), _number_line(actual).long()
    if expected.dtype != torch.float64:
        return left.sub_(right)
    # opposite signs can overflow; their distance is the sum of the magnitudes
    farthest = ((left < 0) != (right < 0)) & (left.abs() > FARTHEST - right.abs())
    return left.sub_(right).masked_fill_(farthest, FARTHEST)


def _number_line(tensor: Tensor) -> Tensor:
    """Place every number on the integers, in order, zeros at 0: floats are sign and magnitude, integers are not."""
    integer = _INTEGER_VIEW[tensor.dtype]
    bits = tensor.contiguous().view(integer)
    magnitude, sign = bits & torch.iinfo(integer).max, bits >> (torch.iinfo(integer).bits - 1)
    return magnitude.bitwise_xor_(sign).sub_(sign)  # the sign is 0 or -1: two's complement
