"""What may be rounding, by numbers that are worked out by hand; and figures on record, judged again."""

import math
from dataclasses import replace

import pytest
import torch

from conversion.mapping.key_map import add_parameters
from conversion.parity.metrics import NO_DIFFERENCE, Departure, Distance, departure_of, error_of
from conversion.parity.verdict import (
    HOPELESS,
    PointVerdict,
    Tolerances,
    Verdict,
    accumulate_scatter,
    allow,
    find_excess,
    judge_again,
    rank,
)

MANY = 10**6  # elements, so that chance allows for nothing beyond the ratio
EPS = 2.0**-10

FAR = PointVerdict(
    "far",
    Verdict.CLOSE,
    original_error=Distance(1.0, 0.1),
    converted_error=Distance(1.5, 0.15),
    allowed=Distance(2.0, 0.2),
    scale=Distance(4.0, 2.0),
    elements=MANY,
)


def test_twice_the_originals_own_error_is_allowed() -> None:
    assert allow(Distance(1.0, 0.1), Distance(4.0, 2.0), MANY, EPS) == Distance(2.0, 0.2)


def test_the_floors_are_ulp_of_the_tensors_own_scale() -> None:
    """Four ULP of its largest element, and half a one of its mean."""
    assert allow(NO_DIFFERENCE, Distance(8.0, 2.0), MANY, EPS) == Distance(32 * EPS, EPS)


def test_other_tolerances_are_taken() -> None:
    tolerances = Tolerances(error_ratio=3.0, floor_max_ulp=1.0, floor_rms_ulp=1.0)
    assert allow(Distance(1.0, 0.1), Distance(4.0, 2.0), MANY, EPS, tolerances).max_abs == 3.0
    assert allow(NO_DIFFERENCE, Distance(8.0, 2.0), MANY, EPS, tolerances) == Distance(8 * EPS, 2 * EPS)
    wide = Tolerances(chance=100.0)
    assert allow(Distance(1.0, 1.0), Distance(1.0, 1.0), 100, EPS, wide).rms == pytest.approx(math.exp(10))


def test_an_excess_names_both_errors() -> None:
    allowed = Distance(2.0, 0.2)
    assert find_excess(Distance(2.0, 0.2), allowed) is None
    assert find_excess(Distance(3.0, 0.2), allowed) == "max error 3 exceeds 2"
    assert find_excess(Distance(3.0, 0.3), allowed) == "RMS error 0.3 exceeds 0.2; max error 3 exceeds 2"
    assert find_excess(Distance(math.nan, 0.1), allowed) == "max error nan exceeds 2"


def test_the_largest_of_all_runs_counts() -> None:
    runs = [Distance(2.0, 0.5), Distance(1.0, 0.7), Distance(math.inf, 0.1), Distance(0.1, math.nan)]
    found = list(accumulate_scatter(Distance(1.0, 0.6), Distance(5.0, 5.0), iter(runs)))
    assert found == [Distance(2.0, 0.6), *[Distance(2.0, 0.7)] * 3]


@pytest.mark.parametrize(
    ("converted", "asked"),
    [
        (Distance(HOPELESS * 2.0, HOPELESS * 0.5), 4),
        (Distance(HOPELESS * 2.0 + 1, 0.5), 2),
        (Distance(2.0, HOPELESS * 0.5 + 1), 2),
    ],
)
def test_few_runs_are_asked_where_an_error_is_out_of_proportion(converted: Distance, asked: int) -> None:
    own = Distance(2.0, 0.5)
    assert len(list(accumulate_scatter(own, converted, iter([own] * 4)))) == asked


def test_the_worst_point_is_the_one_of_the_worse_verdict_then_of_the_larger_error() -> None:
    exact, failed = PointVerdict("exact", Verdict.EXACT), PointVerdict("failed", Verdict.FAILED)
    nearer = replace(FAR, point="near", converted_error=Distance(0.2, 0.02))
    unmeasured = replace(FAR, point="unmeasured", allowed=None)
    allowed_nothing = replace(FAR, point="nothing", allowed=NO_DIFFERENCE)
    points = [FAR, exact, failed, nearer, unmeasured]
    assert [point.point for point in sorted(points, key=rank)] == ["exact", "unmeasured", "near", "far", "failed"]
    assert rank(allowed_nothing) == rank(unmeasured) == (1, 0.0)
    assert rank(FAR) == (1, pytest.approx(0.75))


def test_figures_on_record_are_judged_again() -> None:
    assert judge_again(FAR, EPS) is Verdict.CLOSE
    assert judge_again(FAR, EPS, Tolerances(error_ratio=1.1)) is Verdict.FAILED
    assert judge_again(replace(FAR, converted_error=Distance(3.0, 0.15)), EPS) is Verdict.FAILED
    scattered = replace(FAR, converted_error=Distance(3.0, 0.15), scatter=Distance(2.0, 0.1))
    assert judge_again(scattered, EPS) is Verdict.CLOSE


@pytest.mark.parametrize(
    "lacking", [{"converted_error": None}, {"original_error": None}, {"scale": None}, {"elements": None}], ids=str
)
def test_without_figures_only_no_difference_passes(lacking: dict[str, None]) -> None:
    point = replace(FAR, **lacking)
    assert judge_again(point, EPS) is Verdict.FAILED
    assert judge_again(replace(point, difference=Distance(1e-9, 1e-9)), EPS) is Verdict.FAILED
    assert judge_again(replace(point, difference=NO_DIFFERENCE), EPS) is Verdict.EXACT
    assert judge_again(replace(point, difference=NO_DIFFERENCE, reason="shapes differ"), EPS) is Verdict.FAILED


def test_a_departure_has_the_size_of_what_it_departs_from() -> None:
    departure = departure_of(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0]))
    assert isinstance(departure, Departure)
    assert departure.max_abs == 1.0
    assert (departure.rms, departure.scale) == pytest.approx((math.sqrt(0.5), math.sqrt(12.5)))


def test_one_nan_makes_the_whole_error_nan() -> None:
    """Wherever it lies: the largest of numbers and NaN depends on their order."""
    for at in (0, -1):
        tensor = torch.zeros(2**17 + 1)
        tensor[at] = math.nan
        error = error_of(tensor, torch.zeros(2**17 + 1))
        assert math.isnan(error.max_abs)
        assert math.isnan(error.rms)


def test_a_module_stands_for_its_weight_and_its_bias() -> None:
    assert add_parameters({"norm": "layernorm", "qkv": ("query", "key")}) == {
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
        "qkv.weight": ("query.weight", "key.weight"),
        "qkv.bias": ("query.bias", "key.bias"),
    }
