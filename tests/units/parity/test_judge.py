"""What a capture point comes to, whole: of values that are worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from conversion.parity.metrics import NO_DIFFERENCE, Distance, is_bit_equal, range_of, size_of
from conversion.parity.verdict import (
    OVERFLOW,
    PointVerdict,
    Verdict,
    Yardstick,
    allow,
    allow_for_chance,
    find_vacuity,
    judge,
)

ONE = torch.tensor([1.0, -2.0])
EPS = torch.finfo(torch.float32).eps


def refuse_yardstick() -> Yardstick:
    raise AssertionError("no yardstick is needed")


def test_what_is_equal_needs_no_yardstick() -> None:
    assert judge("a", ONE, ONE.clone(), refuse_yardstick) == PointVerdict("a", Verdict.EXACT, NO_DIFFERENCE)


def test_counters_are_equal_or_failed() -> None:
    found = judge("a", torch.tensor([1, 2]), torch.tensor([1, 5]), refuse_yardstick)
    far = Distance(3.0, math.sqrt(4.5))
    assert found == PointVerdict("a", Verdict.FAILED, far, reason="counters that are not the same")


def test_a_yardstick_of_another_shape_is_none() -> None:
    found = judge("a", ONE, ONE + 1, lambda: Yardstick(torch.ones(3, dtype=torch.float64), NO_DIFFERENCE))
    reason = "the float64 yardstick has another shape"
    assert found == PointVerdict("a", Verdict.FAILED, Distance(1.0, 1.0), reason=reason)


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [(2.0, Verdict.CLOSE, ""), (50.0, Verdict.FAILED, "RMS error 50 exceeds 34.8")],
)
def test_all_figures_are_told(error: float, verdict: Verdict, reason: str) -> None:
    """Of two elements, chance allows for exp(6 / sqrt(2)) = 69.6 times the original's own RMS error."""
    own, size = Distance(1.0, 0.5), Distance(4.0, 4.0)
    yardstick = Yardstick(torch.full((2,), 4.0, dtype=torch.float64), own)
    found = judge("a", torch.full((2,), 5.0), torch.full((2,), 4 + error), lambda: yardstick)
    difference, allowed = Distance(error - 1, error - 1), allow(own, size, 2, EPS)
    figures = difference, None, own, Distance(error, error), allowed, size, 2
    assert found == PointVerdict("a", verdict, *figures, reason, None)


def test_chance_of_one_element_is_that_of_two_in_the_largest() -> None:
    rms_ratio, max_ratio = allow_for_chance(1)
    assert rms_ratio == pytest.approx(math.exp(6))
    assert max_ratio == pytest.approx(math.exp(6 * math.pi / math.sqrt(3) / (2 * math.log(2))))
    assert allow_for_chance(2)[1] == max_ratio


@pytest.mark.parametrize(
    ("expected", "actual", "reason"),
    [
        (ONE, ONE[:1], "shapes differ: original (2,), converted (1,)"),
        (ONE, ONE.double(), "dtypes differ: original torch.float32, converted torch.float64"),
        (ONE[:0], ONE[:0], "nothing to compare: no elements"),
        (ONE / 0, ONE, OVERFLOW),
        (ONE * math.nan, ONE, OVERFLOW),
        (ONE, ONE / 0, "the converted has NaN or Inf"),
        (ONE * 0, ONE, "nothing to compare: all zeros"),
        (ONE * 0, ONE * 0, "nothing to compare: all zeros"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), None),
        (ONE, ONE, None),
    ],
)
def test_a_comparison_that_says_nothing_says_why(expected: Tensor, actual: Tensor, reason: str | None) -> None:
    assert find_vacuity(expected, actual) == reason


def test_zeros_that_weights_make_are_compared() -> None:
    zeros = ONE * 0
    assert find_vacuity(zeros, zeros, lambda: "blocks.0.attn.qkv.weight") is None
    assert find_vacuity(zeros, ONE, lambda: "blocks.0.attn.qkv.weight") == "nothing to compare: all zeros"


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("begins", [0, 1])
def test_every_bit_counts_wherever_a_tensor_lies(size: int, dtype: torch.dtype, begins: int) -> None:
    """Eight bytes at a time where they fit, and else one element."""
    expected = torch.zeros(size + 1, dtype=dtype)[begins : size + begins]
    for at in range(size):
        actual = torch.zeros(size + 1, dtype=dtype)[begins : size + begins]
        assert is_bit_equal(expected, actual)
        actual[at] = -0.0
        assert not is_bit_equal(expected, actual)


def test_one_nan_is_the_size_and_the_range_of_all() -> None:
    for values in ([math.nan, 1.0], [1.0, math.nan]):
        assert all(map(math.isnan, range_of(torch.tensor(values))))
        assert math.isnan(size_of(torch.tensor(values)).max_abs)
    assert range_of(ONE) == (-2.0, 1.0)
    assert size_of(ONE) == Distance(2.0, pytest.approx(math.sqrt(2.5)))
