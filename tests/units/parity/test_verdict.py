"""The judge: what is exact, close or failed; what says nothing; and the float64 yardstick."""

import math
import re

import pytest
import torch
from torch import Tensor, nn

from conversion.parity.capture import capture
from conversion.parity.deviations import Deviation
from conversion.parity.diagnosis import describe_failure
from conversion.parity.metrics import Distance
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import CapturePoint, Inputs, Stage
from conversion.parity.precision import cast_parameters
from conversion.parity.verdict import (
    FLOOR_MAX_ULP,
    FLOOR_RMS_ULP,
    PointVerdict,
    Verdict,
    Yardstick,
    allow_for_chance,
    judge,
    worst,
)
from conversion.parity.verify import InputVerdict
from tests.support.runs import verify_input

ZERO = Distance(0.0, 0.0)


def never() -> Yardstick:
    raise AssertionError("the yardstick must not be computed here")


def judge_error(scale: float) -> PointVerdict:
    """Judge a tensor whose error is ``scale`` times the original's own."""
    reference = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    error = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1e-4
    expected, actual = (reference + error).float(), (reference - scale * error).float()
    own = Distance(float(error.abs().max()), float(error.square().mean().sqrt()))
    return judge("point", expected, actual, lambda: Yardstick(reference, own))


def test_equal_bits_are_exact_and_need_no_yardstick() -> None:
    assert judge("point", torch.ones(3), torch.ones(3), never).verdict is Verdict.EXACT


def test_errors_like_the_originals_own_are_close() -> None:
    assert judge_error(1.0).verdict is Verdict.CLOSE
    assert judge_error(1.9).verdict is Verdict.CLOSE


def test_errors_beyond_twice_the_originals_own_fail() -> None:
    failed = judge_error(2.1)
    assert failed.verdict is Verdict.FAILED
    assert "RMS error" in failed.reason
    assert "max error" not in failed.reason  # the largest of a thousand errors scatters more
    assert "max error" in judge_error(2.3).reason


def test_one_element_off_fails_by_its_maximum() -> None:
    expected = torch.ones(100_000)
    actual = expected.clone()
    actual[7] += 1e-5
    failed = judge("point", expected, actual, lambda: Yardstick(expected.double(), Distance(1e-7, 1e-7)))
    assert failed.verdict is Verdict.FAILED
    assert failed.reason.startswith("max error")


def test_a_yardstick_of_another_shape_measures_nothing() -> None:
    failed = judge("point", torch.ones(3), torch.zeros(3) + 1.5, lambda: Yardstick(torch.ones(4).double(), ZERO))
    assert failed.verdict is Verdict.FAILED
    assert failed.reason == "the float64 yardstick has another shape"
    assert failed.difference == Distance(0.5, 0.5)


def test_a_few_ulp_are_allowed_where_the_original_is_right_to_the_last_bit() -> None:
    eps = torch.finfo(torch.float32).eps
    expected = torch.ones(1024)
    yardstick = Yardstick(expected.double(), Distance(0.0, 0.0))

    def judge_elements(count: int, ulp: float) -> Verdict:
        actual = expected.clone()
        actual[:count] += ulp * eps
        return judge("point", expected, actual, lambda: yardstick).verdict

    assert judge_elements(1, FLOOR_MAX_ULP) is Verdict.CLOSE
    assert judge_elements(1, FLOOR_MAX_ULP + 1) is Verdict.FAILED
    assert judge_elements(255, 1) is Verdict.CLOSE  # an RMS of just under half an ULP
    assert judge_elements(257, 1) is Verdict.FAILED
    assert FLOOR_RMS_ULP == 0.5


def test_chance_is_allowed_for_in_a_few_elements_and_in_no_more() -> None:
    reference = torch.ones(10, dtype=torch.float64)
    yardstick = Yardstick(reference, Distance(1e-3, 1e-3))
    for error, verdict in ((6e-3, Verdict.CLOSE), (7e-3, Verdict.FAILED)):
        assert judge("point", torch.ones(10), torch.ones(10) + error, lambda: yardstick).verdict is verdict
    yardstick = Yardstick(torch.ones(80, dtype=torch.float64), Distance(1e-3, 1e-3))
    assert judge("point", torch.ones(80), torch.ones(80) + 2.1e-3, lambda: yardstick).verdict is Verdict.FAILED


@pytest.mark.parametrize(("count", "ratio"), [(300, 2.6), (1000, 2.2), (2600, 2.0), (10**6, 2.0)])
def test_the_largest_of_a_few_errors_is_allowed_more_chance(count: int, ratio: float) -> None:
    rms_ratio, max_ratio = allow_for_chance(count)
    assert rms_ratio == 2.0
    assert max_ratio == pytest.approx(ratio, abs=0.05)
    # the ratio of the largest of two sets of normal errors is never nearly that large
    generator = torch.Generator().manual_seed(0)
    largest = torch.stack([torch.randn(2, count, generator=generator).abs().amax(1) for _ in range(200)])
    assert (largest[:, 0] / largest[:, 1]).max() < ratio


def test_the_floor_does_not_add_to_the_ratio() -> None:
    eps = torch.finfo(torch.float32).eps
    expected = torch.ones(1024)
    yardstick = Yardstick(expected.double(), Distance(2 * eps, eps))
    assert judge("point", expected, expected + 2 * eps, lambda: yardstick).verdict is Verdict.CLOSE
    assert judge("point", expected, expected + 3 * eps, lambda: yardstick).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("expected", "actual", "reason"),
    [
        (torch.zeros(0), torch.zeros(0), "no elements"),
        (torch.zeros(4), torch.zeros(4), "all zeros"),
        (torch.tensor([math.nan]), torch.tensor([math.nan]), "the original has NaN"),
        (torch.ones(1), torch.tensor([math.inf]), "the converted has NaN or Inf"),
        (torch.ones(2), torch.ones(3), r"shapes differ"),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), "dtypes differ"),
    ],
)
def test_a_comparison_that_says_nothing_fails(expected: Tensor, actual: Tensor, reason: str) -> None:
    verdict = judge("point", expected, actual, never)
    assert verdict.verdict is Verdict.FAILED
    assert reason in verdict.reason


def test_a_nan_yardstick_fails() -> None:
    yardstick = Yardstick(torch.full((2,), math.nan, dtype=torch.float64), Distance(math.nan, math.nan))
    assert judge("point", torch.ones(2), torch.ones(2) + 1e-6, lambda: yardstick).verdict is Verdict.FAILED


def test_worst_of_none_is_failed() -> None:
    assert worst([]) is Verdict.FAILED
    assert worst([Verdict.EXACT, Verdict.FAILED, Verdict.CLOSE]) is Verdict.FAILED


class Toy(nn.Module):
    """A model with parameters of its own and of a submodule, and a switch for a counterfactual."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.token = nn.Parameter(torch.randn(64, generator=generator))
        self.linear = nn.Linear(64, 64)
        self.linear.weight = nn.Parameter(torch.randn(64, 64, generator=generator))
        self.linear.bias = nn.Parameter(torch.randn(64, generator=generator))
        self.offset = 0.0
        self.noise = noise

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"out": self.linear(pixel_values + self.token + self.offset) + self.noise}


STAGES = [
    Stage("inner", (CapturePoint("inner", "linear:input", "linear:input", ("token",)),)),
    Stage("linear", (CapturePoint("linear", "linear:output", "linear:output", ("linear.*",)),), "linear", "linear"),
    Stage("out", (CapturePoint("out", ":out", ":out", ()),)),
]
INPUTS = Inputs(torch.randn(5, 64, generator=torch.Generator().manual_seed(2)))


def verify(original: nn.Module, converted: nn.Module, deviation: Deviation | None = None) -> InputVerdict:
    return verify_input("toy", OriginalRun(original, STAGES, INPUTS, torch.float32), converted, deviation)


def test_capture_reaches_inputs_outputs_and_results() -> None:
    model = Toy()
    captures = capture(model, STAGES, "original", INPUTS)
    assert torch.equal(captures["inner"], INPUTS.pixel_values + model.token)
    assert torch.equal(captures["linear"], captures["out"])


def test_a_point_that_is_never_reached_fails() -> None:
    ghosts = [CapturePoint("ghost", place, place, ()) for place in (":ghost", "ghost:output")]
    for ghost in ghosts:
        run = OriginalRun(Toy(), [Stage("ghost", (ghost,)), *STAGES], INPUTS, torch.float32)
        judged = verify_input("toy", run, Toy()).points
        assert [point.verdict for point in judged] == [Verdict.FAILED, *[Verdict.EXACT] * 3]
        assert "never reached" in judged[0].reason


def test_casting_runs_in_the_other_dtype_and_gives_the_weights_back() -> None:
    model = Toy()
    before = dict(model.named_parameters())
    double = Toy().double()
    with torch.no_grad():
        expected = double(INPUTS.pixel_values.double())["out"]
    actual = capture(model, STAGES, "original", INPUTS, torch.float64)["out"]
    assert actual.dtype == torch.float64
    assert torch.equal(actual, expected)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_casting_gives_the_weights_back_after_an_error() -> None:
    model = Toy()
    before = dict(model.named_parameters())
    with pytest.raises(RuntimeError), cast_parameters(model, torch.float64):
        model(torch.ones(1, 7, dtype=torch.float64))
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_casting_holds_one_module_in_the_other_dtype_at_a_time() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    seen = []
    model[1].register_forward_pre_hook(lambda *_: seen.append([p.dtype for p in model.parameters()]))
    with cast_parameters(model, torch.float64):
        model[1].register_forward_pre_hook(lambda *_: seen.append([p.dtype for p in model.parameters()]))
        model(torch.ones(1, 4, dtype=torch.float64))
    assert seen[1] == [torch.float32, torch.float32, torch.float64, torch.float64]


def test_the_same_model_is_exact_and_a_noisy_one_fails() -> None:
    assert verify(Toy(), Toy()).verdict is Verdict.EXACT
    assert verify(Toy(), Toy(noise=1e-3)).verdict is Verdict.FAILED


def test_rounding_is_close_in_float64_too() -> None:
    run = OriginalRun(Toy(), STAGES, INPUTS, torch.float64)
    assert verify_input("toy", run, Toy(noise=1e-15).double()).verdict is Verdict.CLOSE
    assert verify_input("toy", run, Toy(noise=1e-12).double()).verdict is Verdict.FAILED


def test_the_error_ratio_is_that_of_the_worst_point() -> None:
    assert verify(Toy(), Toy()).error_ratio == 1.0
    noisy = verify(Toy(), Toy(noise=1e-3))
    worst_point = noisy.points[-1]
    assert worst_point.point == "out"
    assert worst_point.converted_error is not None
    assert worst_point.original_error is not None
    assert noisy.error_ratio == worst_point.converted_error.rms / worst_point.original_error.rms > 100


OFFSET = Deviation("offset", "", "", "", "", "", {"offset": 1.0})


def test_a_deviation_agrees_under_its_counterfactual() -> None:
    converted = Toy()
    converted.offset = 1.0
    original = Toy()
    result = verify(original, converted, OFFSET)
    assert (result.verdict, result.deviation) == (Verdict.EXACT, "offset")
    assert {point.verdict for point in result.points} == {Verdict.EXACT}
    assert set(result.otherwise) == {"inner", "linear", "out"}
    assert result.otherwise["inner"].max_abs == pytest.approx(1.0)
    assert original.offset == 0.0


def test_weights_that_do_not_show_the_deviation_are_exact() -> None:
    result = verify(Toy(), Toy(), OFFSET)
    assert result.verdict is Verdict.EXACT
    assert (result.deviation, result.otherwise) == ("", {})


def test_a_difference_beyond_the_deviation_fails() -> None:
    converted = Toy(noise=1e-3)
    converted.offset = 1.0
    result = verify(Toy(), converted, OFFSET)
    assert result.verdict is Verdict.FAILED
    assert "What transformers does otherwise was allowed for: offset." in describe_failure("toy", "cpu", [result])


def test_nan_under_a_deviation_fails() -> None:
    assert verify(Toy(), Toy(noise=math.nan), OFFSET).verdict is Verdict.FAILED


def test_a_failure_names_variant_point_figures_and_source_keys() -> None:
    message = describe_failure("toy", "cpu, float32", [verify(Toy(), Toy(noise=1e-3))])
    assert "toy (cpu, float32)" in message
    assert "failed at 1 of 3 capture points, first at out" in message
    assert re.search(r"difference +0\.001 +0\.001 ", message)
    converted = Toy()
    converted.linear.bias = nn.Parameter(converted.linear.bias + 1)
    assert "fed by     linear.*" in describe_failure("toy", "cpu", [verify(Toy(), converted)])
    assert len(message.splitlines()) < 40
