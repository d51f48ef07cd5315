"""Cubic resampling as matrix products is what torch computes, and rounds less."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from conversion.exports.resampling import interpolate_by_products
from conversion.parity.metrics import error_of

CUBIC: dict[str, Any] = {"mode": "bicubic", "align_corners": False}


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (37, 37), (50, 41), (1, 2), (36, 38)])
@pytest.mark.parametrize("antialias", [False, True])
def test_it_is_the_same_function(antialias: bool, size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, 37, 37, dtype=torch.float64)
    expected = F.interpolate(maps, size=size, antialias=antialias, **CUBIC)
    computed = interpolate_by_products(maps, size=size, antialias=antialias, **CUBIC)
    assert error_of(computed, expected).max_abs < 1e-13


@pytest.mark.parametrize("antialias", [False, True])
def test_a_map_of_the_same_size_is_left_as_it_is(antialias: bool) -> None:
    maps = torch.randn(1, 2, 9, 11)
    assert torch.equal(interpolate_by_products(maps, (9, 11), antialias=antialias, **CUBIC), maps)


@pytest.mark.parametrize("antialias", [False, True])
def test_it_rounds_less_than_torch(antialias: bool) -> None:
    """A ratio in float32 is off by more, the further a place lies from the first."""
    maps = torch.randn(1, 8, 37, 37, generator=torch.Generator().manual_seed(0))
    options = {**CUBIC, "size": (20, 45), "antialias": antialias}
    exact = F.interpolate(maps.double(), **options)
    computed, of_torch = interpolate_by_products(maps, **options), F.interpolate(maps, **options)
    assert error_of(computed, exact).rms < error_of(of_torch, exact).rms / 2


def test_halves_are_weighted_in_single_precision() -> None:
    maps = torch.randn(1, 2, 37, 37).half()
    computed = interpolate_by_products(maps, (16, 20), **CUBIC)
    assert computed.dtype == torch.float16
    exact = F.interpolate(maps.double(), (16, 20), **CUBIC)
    assert error_of(computed, exact).max_abs < 4e-3  # one unit of float16 at 3


def test_with_antialias_it_is_another() -> None:
    maps = torch.randn(1, 1, 37, 37)
    plain, antialiased = (interpolate_by_products(maps, (16, 16), antialias=each, **CUBIC) for each in (False, True))
    assert error_of(plain, antialiased).max_abs > 0.1


@pytest.mark.parametrize(
    "options",
    [{"mode": "bicubic", "align_corners": True}, {"mode": "bilinear", "antialias": True}, {"mode": "nearest"}],
)
def test_all_else_is_left_to_torch(options: dict[str, Any]) -> None:
    maps = torch.randn(1, 2, 9, 9)
    assert torch.equal(interpolate_by_products(maps, (4, 4), **options), F.interpolate(maps, (4, 4), **options))
