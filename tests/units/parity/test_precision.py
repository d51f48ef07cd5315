"""Weights in another dtype, and convolutions, in little memory."""

import pytest
import torch
from torch import nn

from conversion.parity import precision
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs, build_place
from conversion.parity.precision import Casts, convolve_by_places


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
    nn.Conv2d(4, 6, (5, 3), padding=(2, 1)),
    nn.Conv2d(4, 6, (1, 4), padding=(0, 3)),
    nn.Conv2d(3, 5, 3, padding=2, dilation=2),
    nn.Conv2d(3, 5, (3, 2), padding=(0, 2), dilation=(1, 3)),
    nn.Conv2d(3, 5, 3),
]


@pytest.mark.parametrize("channels", [1, 2, 512])
@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_a_product_for_each_place_of_the_kernel_is_a_convolution(
    convolution: nn.Conv2d, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the order of the sums, and without torch's, which lays out all that the kernel passes."""
    monkeypatch.setattr(precision, "CHANNELS", channels)
    convolution = convolution.double()
    maps = torch.randn(2, convolution.in_channels, 9, 7, dtype=torch.float64)
    expected = convolution(maps)
    module = nn.Sequential(convolution)
    convolve_by_places(module)
    monkeypatch.delattr(nn.functional, "conv2d")
    actual = module(maps)
    assert actual.shape == expected.shape
    assert torch.allclose(actual, expected, rtol=0, atol=1e-14)
    del convolution.forward


LEFT_ALONE = [
    nn.Conv2d(3, 5, 4, stride=4),
    nn.Conv2d(3, 5, 1),
    nn.Conv2d(4, 6, 3, groups=2),
    nn.Conv2d(3, 5, 3, padding="same"),
    nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"),
]


@pytest.mark.parametrize("convolution", LEFT_ALONE, ids=str)
def test_patch_embeddings_projections_and_what_has_another_padding_are_left_as_they_are(convolution: nn.Conv2d) -> None:
    convolve_by_places(convolution)
    assert "forward" not in vars(convolution)


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, 1), (torch.float64, 0)])
def test_only_a_yardstick_in_float64_is_convolved_otherwise(
    dtype: torch.dtype, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what is compared bit for bit."""
    seen: list[nn.Module] = []
    monkeypatch.setattr("conversion.parity.original_run.convolve_by_places", seen.append)
    stage = build_place("out", ":out", ":out")
    run = OriginalRun(nn.Conv2d(3, 5, 3), [stage], Inputs(torch.randn(1, 3, 8, 8)), dtype)
    run.read_expected()
    run.read_precise()
    assert len(seen) == expected
    assert all(model is not run.original for model in seen)
