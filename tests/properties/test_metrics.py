"""The measuring instruments, before anything is measured with them."""

import math

import pytest
import torch
from hypothesis import given

from conversion.parity.metrics import CHUNK, Distance, error_of, is_bit_equal, size_of
from tests.support.strategies import floats


@given(floats())
def test_bits_are_equal_where_all_bytes_are(numbers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    left, right, _ = numbers
    assert is_bit_equal(left, left.clone())
    are_same = left.view(torch.uint8).tolist() == right.view(torch.uint8).tolist()
    assert is_bit_equal(left, right) == is_bit_equal(right, left) == are_same


def test_bit_equality_sees_what_equality_does_not() -> None:
    assert is_bit_equal(torch.tensor([math.nan]), torch.tensor([math.nan]))
    assert not is_bit_equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not is_bit_equal(torch.ones(2), torch.ones(1, 2))
    assert not is_bit_equal(torch.ones(2), torch.ones(2, dtype=torch.float64))
    assert is_bit_equal(torch.ones(2, 3), torch.ones(3, 2).T)


def test_errors_of_known_differences() -> None:
    error = error_of(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 2.0]))
    assert error == Distance(max_abs=2.0, rms=1.0)


def test_differences_are_taken_in_float64() -> None:
    left, right = torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16)
    assert error_of(left, right).max_abs == 0.0078125


def test_the_error_of_nan_is_not_a_number() -> None:
    error = error_of(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]))
    assert math.isnan(error.max_abs)
    assert math.isnan(error.rms)


@given(floats())
def test_the_largest_error_is_that_of_an_element(numbers: tuple[torch.Tensor, ...]) -> None:
    left, right = torch.cat(numbers), torch.cat(numbers).flip(0)
    largest = float((left.double() - right.double()).abs().max())  # NaN between two infinities
    assert error_of(left, right).max_abs == pytest.approx(largest, rel=0, abs=0, nan_ok=True)
    assert error_of(right, left).max_abs == pytest.approx(largest, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, 2 * CHUNK])
def test_every_element_of_a_large_tensor_is_seen(at: int) -> None:
    left = torch.ones(2 * CHUNK + 1)
    right = left.clone()
    right[at] = -3.0
    error = error_of(left, right)
    assert error.max_abs == 4.0
    assert math.isclose(error.rms, math.sqrt(16 / left.numel()))


def test_size_is_the_distance_from_zero() -> None:
    size = size_of(torch.tensor([[3.0, -4.0]], dtype=torch.float64))
    assert size.max_abs == 4.0
    assert math.isclose(size.rms, math.sqrt(12.5))
    assert math.isnan(size_of(torch.tensor([1.0, math.nan])).max_abs)
