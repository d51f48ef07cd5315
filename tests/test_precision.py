"""Weights in another dtype, and convolutions, in little memory."""

import pytest
import torch
from torch import nn

from conversion.parity import precision
from conversion.parity.compare import OriginalRun
from conversion.parity.points import Inputs, build_place
from conversion.parity.precision import Casts, convolve_in_strips


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


def test_a_weight_is_cast_once_for_all_who_come() -> None:
    weight, casts = nn.Parameter(torch.randn(8)), Casts()
    cast = casts.cast(weight, torch.float64)
    assert casts.cast(weight, torch.float64) is cast
    assert isinstance(cast, nn.Parameter)
    assert torch.equal(cast, weight.double())
    assert casts.cast(weight, torch.bfloat16).dtype == torch.bfloat16


def test_the_oldest_casts_go_when_there_are_too_many_bytes() -> None:
    weights = [torch.randn(8) for _ in range(4)]
    casts = Casts(limit=2 * 8 * 8)
    first, _, *last = [casts.cast(weight, torch.float64) for weight in weights]
    assert all(casts.cast(weight, torch.float64) is cast for weight, cast in zip(weights[2:], last, strict=True))
    assert casts.cast(weights[0], torch.float64) is not first


def test_casts_are_not_mistaken_for_those_of_weights_that_are_gone() -> None:
    casts = Casts()
    for value in range(100):
        assert casts.cast(torch.full((4,), float(value)), torch.float64)[0] == value


CONVOLUTIONS = [
    nn.Conv2d(3, 5, 3, padding=1),
    nn.Conv2d(3, 5, 3, padding=1, bias=False),
    nn.Conv2d(4, 6, (5, 3), padding=(2, 1), groups=2),
    nn.Conv2d(3, 5, 3, padding=2, dilation=2),
    nn.Conv2d(3, 5, 3),
]


@pytest.mark.parametrize("elements", [1, 4000, 2**25])
@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_strips_are_the_whole(convolution: nn.Conv2d, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the order of the sums; of one row each, of some, of all."""
    monkeypatch.setattr(precision, "STRIP", elements)
    maps = torch.randn(2, convolution.in_channels, 9, 7, dtype=torch.float64)
    convolution = convolution.double()
    expected = nn.functional.conv2d(
        maps, convolution.weight, convolution.bias, 1, convolution.padding, convolution.dilation, convolution.groups
    )
    module = nn.Sequential(convolution)
    convolve_in_strips(module)
    actual = module(maps)
    assert actual.shape == expected.shape
    assert torch.allclose(actual, expected, rtol=0, atol=1e-14)
    del convolution.forward


def test_strips_bound_what_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    heights = []
    convolve = nn.functional.conv2d

    def note(maps: torch.Tensor, **others: object) -> torch.Tensor:
        heights.append(maps.shape[-2])
        return convolve(maps, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(precision.F, "conv2d", note)
    monkeypatch.setattr(precision, "STRIP", 9 * 3 * 12 * 4)  # of maps 12 wide with their padding, four rows
    module = nn.Conv2d(3, 2, 3, padding=1)
    convolve_in_strips(module)
    module(torch.randn(1, 3, 10, 10))
    assert heights == [6, 6, 4]


@pytest.mark.parametrize("convolution", [nn.Conv2d(3, 5, 4, stride=4), nn.Conv2d(3, 5, 1)], ids=str)
def test_patch_embeddings_and_projections_are_left_as_they_are(convolution: nn.Conv2d) -> None:
    convolve_in_strips(convolution)
    assert "forward" not in vars(convolution)


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, 1), (torch.float64, 0)])
def test_only_a_yardstick_in_float64_is_convolved_in_strips(
    dtype: torch.dtype, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what is compared bit for bit."""
    seen: list[nn.Module] = []
    monkeypatch.setattr("conversion.parity.compare.convolve_in_strips", seen.append)
    stage = build_place("out", ":out", ":out")
    run = OriginalRun(nn.Conv2d(3, 5, 3), [stage], Inputs(torch.randn(1, 3, 8, 8)), dtype)
    run.read_expected()
    run.read_precise()
    assert len(seen) == expected
    assert all(model is not run.original for model in seen)
