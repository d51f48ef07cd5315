"""The measuring instruments, before anything is measured with them."""

import math

import pytest
import torch
from hypothesis import given

from conversion.parity.metrics import CHUNK, FARTHEST, is_bit_equal, measure, size_of, ulp_distance
from tests.support.strategies import floats

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def ulp(left: float, right: float, dtype: torch.dtype = torch.float32) -> int:
    return int(ulp_distance(torch.tensor([left], dtype=dtype), torch.tensor([right], dtype=dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ulp_distance_counts_representable_numbers(dtype: torch.dtype) -> None:
    one, info = torch.ones(1, dtype=dtype), torch.finfo(dtype)
    zero, inf = torch.zeros(1, dtype=dtype), torch.full((1,), math.inf, dtype=dtype)
    assert ulp_distance(one, one + info.eps) == 1
    assert ulp_distance(one, one - info.eps / 2) == 1  # below a power of two, numbers are twice as dense
    assert ulp_distance(one, one + 5 * info.eps) == 5
    tiny = torch.full((1,), info.smallest_normal * info.eps, dtype=dtype)  # the smallest subnormal
    assert ulp_distance(zero, tiny) == 1
    assert ulp_distance(tiny, -tiny) == 2
    assert ulp_distance(torch.full((1,), info.max, dtype=dtype), inf) == 1


def test_ulp_distance_of_zeros_is_zero() -> None:
    assert ulp(0.0, -0.0) == 0


def test_ulp_distance_to_nan_is_the_farthest() -> None:
    assert ulp(math.nan, 1.0) == ulp(1.0, math.nan) == ulp(math.nan, math.nan) == FARTHEST


def test_ulp_distance_saturates_where_it_would_overflow() -> None:
    assert ulp(-1e308, 1e308, torch.float64) == FARTHEST
    assert ulp(-math.inf, math.inf) == 2 * 0x7F800000


def test_ulp_distance_refuses_two_dtypes() -> None:
    with pytest.raises(TypeError, match="one dtype"):
        ulp_distance(torch.ones(1), torch.ones(1, dtype=torch.float64))


@given(floats())
def test_ulp_distance_is_a_metric(numbers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    left, middle, right = numbers
    distance = int(ulp_distance(left, right))
    assert distance >= 0
    assert (distance == 0) == bool(left == right)
    assert distance == int(ulp_distance(right, left))
    assert distance <= int(ulp_distance(left, middle)) + int(ulp_distance(middle, right))


@given(floats())
def test_ulp_distance_agrees_with_nextafter(numbers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    left, right, _ = numbers
    if left.dtype in (torch.float32, torch.float64) and left != right:
        step = torch.nextafter(left, right)
        assert int(ulp_distance(left, step)) == 1
        if int(ulp_distance(left, right)) < FARTHEST:
            assert int(ulp_distance(left, right)) == 1 + int(ulp_distance(step, right))


def test_ulp_distance_of_views_that_are_not_contiguous() -> None:
    left = torch.arange(6.0).reshape(2, 3).T
    assert ulp_distance(left, left.contiguous()).sum() == 0


def test_bit_equality_sees_what_equality_does_not() -> None:
    assert is_bit_equal(torch.tensor([math.nan]), torch.tensor([math.nan]))
    assert not is_bit_equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not is_bit_equal(torch.ones(2), torch.ones(1, 2))
    assert not is_bit_equal(torch.ones(2), torch.ones(2, dtype=torch.float64))
    assert is_bit_equal(torch.ones(2, 3), torch.ones(3, 2).T)


def test_measure_of_known_differences() -> None:
    difference = measure(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 2.0]))
    assert difference.max_abs == 2.0
    assert difference.rms == 1.0
    assert difference.max_ulp == 1 << 23  # from 2 to 4 is a whole binade


def test_measure_takes_differences_in_float64() -> None:
    left, right = torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16)
    assert measure(left, right).max_abs == 0.0078125


def test_measure_of_nan_is_not_a_number() -> None:
    difference = measure(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]))
    assert math.isnan(difference.max_abs)
    assert math.isnan(difference.rms)
    assert difference.max_ulp == FARTHEST


@given(floats())
def test_measure_finds_the_largest_of_what_it_is_made_of(numbers: tuple[torch.Tensor, ...]) -> None:
    left, right = torch.cat(numbers), torch.cat(numbers).flip(0)
    difference = measure(left, right)
    assert difference.max_ulp == int(ulp_distance(left, right).max())
    largest = float((left.double() - right.double()).abs().max())  # NaN between two infinities
    assert difference.max_abs == pytest.approx(largest, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, 2 * CHUNK])
def test_measure_sees_every_element_of_a_large_tensor(at: int) -> None:
    left = torch.ones(2 * CHUNK + 1)
    right = left.clone()
    right[at] = -3.0
    difference = measure(left, right)
    assert (difference.max_abs, difference.max_ulp) == (4.0, int(ulp_distance(left[at], right[at])))
    assert math.isclose(difference.rms, math.sqrt(16 / left.numel()))


def test_size_is_the_distance_from_zero() -> None:
    size = size_of(torch.tensor([[3.0, -4.0]], dtype=torch.float64))
    assert size.max_abs == 4.0
    assert math.isclose(size.rms, math.sqrt(12.5))
    assert math.isnan(size_of(torch.tensor([1.0, math.nan])).max_abs)
