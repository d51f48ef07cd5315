"""Antialiased resampling as matrix products is what torch computes."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from conversion.exports.resampling import interpolate_by_products
from conversion.parity.metrics import error_of

OPTIONS: dict[str, Any] = {"mode": "bicubic", "align_corners": False, "antialias": True}


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (37, 37), (50, 41), (1, 2), (36, 38)])
def test_it_is_the_same_function(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, 37, 37, dtype=torch.float64)
    expected = F.interpolate(maps, size=size, **OPTIONS)
    assert error_of(interpolate_by_products(maps, size=size, **OPTIONS), expected).max_abs < 1e-13


def test_without_antialias_it_is_another() -> None:
    maps = torch.randn(1, 1, 37, 37)
    plain = F.interpolate(maps, size=(16, 16), mode="bicubic", align_corners=False)
    assert error_of(interpolate_by_products(maps, size=(16, 16), **OPTIONS), plain).max_abs > 0.1


@pytest.mark.parametrize("options", [{"mode": "bicubic"}, {"mode": "bilinear", "antialias": True}, {"mode": "nearest"}])
def test_all_else_is_left_to_torch(options: dict[str, Any]) -> None:
    maps = torch.randn(1, 2, 9, 9)
    assert torch.equal(interpolate_by_products(maps, (4, 4), **options), F.interpolate(maps, (4, 4), **options))
