"""Other roundings of the same function, and what a verdict makes of them; zeros that weights make."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.parity.metrics import Distance, error_of
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import CapturePoint, Inputs, Stage
from conversion.parity.precision import Casts
from conversion.parity.roundings import OtherRoundings, run_otherwise
from conversion.parity.verdict import FEW_RUNS, PointVerdict, Verdict, Yardstick, judge, judge_again
from conversion.parity.zeros import find_zero_source
from tests.support.runs import KeptRun, verify_input

GENERATOR = torch.Generator().manual_seed(0)
MAPS = torch.randn(2, 3, 8, 8, generator=GENERATOR)
TOKENS = torch.randn(2, 5, 12, generator=GENERATOR)
HEADS = TOKENS.view(2, 5, 3, 4).transpose(1, 2)
WEIGHT, BIAS = torch.randn(12, 12, generator=GENERATOR), torch.randn(12, generator=GENERATOR)
KERNEL = torch.randn(4, 3, 2, 2, generator=GENERATOR)

OPERATIONS = {
    "linear": lambda dtype: F.linear(TOKENS.to(dtype), WEIGHT.to(dtype), BIAS.to(dtype)),
    "linear without bias": lambda dtype: F.linear(TOKENS.to(dtype), WEIGHT.to(dtype)),
    "linear on a matrix": lambda dtype: F.linear(TOKENS[0].to(dtype), WEIGHT.to(dtype), BIAS.to(dtype)),
    "addmm": lambda dtype: torch.addmm(BIAS.to(dtype), TOKENS[0].to(dtype), WEIGHT.to(dtype), beta=2, alpha=3),
    "matmul": lambda dtype: HEADS.to(dtype) @ HEADS.to(dtype).transpose(-2, -1),
    "convolution": lambda dtype: F.conv2d(MAPS.to(dtype), KERNEL.to(dtype), BIAS[:4].to(dtype), stride=2),
    "layer norm": lambda dtype: F.layer_norm(TOKENS.to(dtype), (12,), WEIGHT[0].to(dtype), BIAS.to(dtype), eps=1e-2),
    "attention": lambda dtype: F.scaled_dot_product_attention(*[HEADS.to(dtype)] * 3),
    "masked attention": lambda dtype: F.scaled_dot_product_attention(*[HEADS.to(dtype)] * 3, HEADS[..., :1].to(dtype)),
    "softmax": lambda dtype: TOKENS.to(dtype).softmax(-1),
    "gelu": lambda dtype: F.gelu(TOKENS.to(dtype)),
    "silu": lambda dtype: F.silu(TOKENS.to(dtype)),
    "mean": lambda dtype: TOKENS.to(dtype).mean(dim=1),
    "sum": lambda dtype: TOKENS.to(dtype).sum(-1),
}


@pytest.mark.parametrize("name", OPERATIONS)
@torch.inference_mode()
def test_other_roundings_are_of_the_same_function(name: str) -> None:
    compute = OPERATIONS[name]
    precise, plain = compute(torch.float64), compute(torch.float32)
    results = []
    for seed in (*range(6), 0):
        with OtherRoundings(seed):
            results.append(compute(torch.float32))
            assert error_of(compute(torch.float64), precise).max_abs < 1e-13
    errors = [error_of(result, precise).rms for result in results]
    assert len({tuple(result.flatten().tolist()) for result in (plain, *results)}) >= 4  # other ones
    assert torch.equal(results[0], results[-1])  # and the same by the same seed
    own = error_of(plain, precise).rms
    assert own / 4 < max(errors) < 4 * max(own, 1e-7)


@torch.inference_mode()
def test_what_is_equal_stays_equal_and_zeros_stay_zeros() -> None:
    equal = TOKENS[:, :1].expand(-1, 5, -1).contiguous()
    with OtherRoundings(0):
        tokens = F.layer_norm(F.linear(equal, WEIGHT, BIAS), (12,))
        zeros = F.linear(TOKENS, torch.zeros(12, 12))
    assert torch.equal(tokens, tokens[:, :1].expand_as(tokens))
    assert not zeros.any()


@torch.inference_mode()
def test_integers_pass_as_they_are() -> None:
    with OtherRoundings(0):
        assert int(torch.arange(5).sum()) == 10


def judge_with(others: list[Distance], ratio: float = 3.0) -> PointVerdict:
    """A model whose error is ``ratio`` times the original's own, beside the original's errors with other roundings."""
    reference = torch.full((100_000,), 1.0, dtype=torch.float64)
    own = Distance(1e-5, 1e-5)
    actual = (reference + ratio * 1e-5).float()
    return judge("point", reference.float(), actual, lambda: Yardstick(reference, own), lambda: iter(others))


def test_what_other_roundings_make_is_allowed_and_recorded() -> None:
    assert judge_with([]).verdict is Verdict.FAILED
    assert judge_with([Distance(1.4e-5, 1.4e-5)] * 5).verdict is Verdict.FAILED  # twice that is less
    close = judge_with([Distance(0.5e-5, 0.5e-5), Distance(1.6e-5, 1.6e-5)])
    assert close.verdict is Verdict.CLOSE
    assert close.scatter == Distance(1.6e-5, 1.6e-5)
    assert close.allowed == Distance(3.2e-5, 3.2e-5)


def test_recorded_figures_are_judged_by_what_they_were_allowed() -> None:
    eps = torch.finfo(torch.float32).eps
    close = judge_with([Distance(1.6e-5, 1.6e-5)])
    assert judge_again(close, eps) is Verdict.CLOSE
    assert judge_again(replace(close, scatter=None), eps) is Verdict.FAILED


def test_no_more_runs_than_needed() -> None:
    asked = []

    def run(size: float) -> Iterator[Distance]:
        for index in range(32):
            asked.append(index)
            yield Distance(size, size)

    reference = torch.ones(100_000, dtype=torch.float64)
    for error, size, runs in ((1.5e-5, 1e-5, 0), (3e-5, 2e-5, 1), (3e-5, 1e-5, 32), (0.1, 1e-5, FEW_RUNS)):
        asked.clear()
        yardstick = Yardstick(reference, Distance(1e-5, 1e-5))
        judge("point", reference.float(), (reference + error).float(), lambda: yardstick, lambda: run(size))  # noqa: B023
        assert len(asked) == runs


def test_a_run_that_overflowed_allows_nothing() -> None:
    for broken in (float("nan"), float("inf")):
        judged = judge_with([Distance(broken, broken)] * 32)
        assert judged.verdict is Verdict.FAILED
        assert judged.scatter == Distance(1e-5, 1e-5)


class Toy(nn.Module):
    """A projection in three parts, of which one may be zeros."""

    def __init__(self, *, is_zero: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36, bias=False)
        self.qkv.weight = nn.Parameter(torch.randn(36, 12, generator=torch.Generator().manual_seed(0)))
        if is_zero:
            self.qkv.weight.data[12:24] = 0

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.qkv(pixel_values)


POINTS = [CapturePoint(name, f"qkv:output[{i}/3]", f"qkv:output[{i}/3]", ("qkv.*",)) for i, name in enumerate("qkv")]
STAGES = [Stage("qkv", tuple(POINTS))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@torch.inference_mode()
def test_the_original_is_run_otherwise_up_to_a_stage(dtype: torch.dtype) -> None:
    run = OriginalRun(Toy(is_zero=False), STAGES, Inputs(TOKENS), dtype)
    with closing(run.read_expected()) as one, closing(run.read_precise()) as other:
        expected, precise = one.read(STAGES[0]).values, other.read(STAGES[0]).values
    own = run.build_yardstick(expected["q"], precise["q"]).original_error
    errors = [run.measure_other(seed, STAGES[0], expected, precise)["q"] for seed in range(4)]
    assert len(set(errors)) == 4
    assert all(own.rms / 4 < error.rms < 4 * own.rms for error in errors)
    (plain,) = run_otherwise(Toy(is_zero=False), 0, STAGES, STAGES, Inputs(TOKENS), torch.float32, Casts())
    (again,) = run_otherwise(Toy(is_zero=False), 0, STAGES, STAGES, Inputs(TOKENS), torch.float32, Casts())
    assert torch.equal(plain["q"], again["q"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.inference_mode()
def test_one_pass_measures_all_stages_where_what_was_computed_is_kept(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [Stage("first", tuple(POINTS[:1])), Stage("second", tuple(POINTS[1:]))]
    passes = Mock(wraps=run_otherwise)
    monkeypatch.setattr("conversion.parity.original_run.run_otherwise", passes)
    measured = []
    for kind, count in ((OriginalRun, 4), (KeptRun, 2)):
        run = kind(Toy(is_zero=False), stages, Inputs(TOKENS), dtype)
        with closing(run.read_expected()) as one, closing(run.read_precise()) as other:
            values = {stage.name: (one.read(stage).values, other.read(stage).values) for stage in stages}
        measured.append([run.measure_other(seed, stage, *values[stage.name]) for seed in (0, 1) for stage in stages])
        assert passes.call_count == count
        passes.reset_mock()
    assert measured[0] == measured[1]
    assert [set(errors) for errors in measured[0][:2]] == [{"q"}, {"k", "v"}]


def test_zeros_that_weights_make_are_compared() -> None:
    assert [find_zero_source(Toy(is_zero=True), point) for point in POINTS] == [None, "qkv.weight", None]
    run = OriginalRun(Toy(is_zero=True), STAGES, Inputs(TOKENS), torch.float32)
    assert verify_input("toy", run, Toy(is_zero=True)).verdict is Verdict.EXACT
    (_, key, _) = verify_input("toy", run, Toy(is_zero=False)).points
    assert key.verdict is Verdict.FAILED


def test_zeros_that_no_weights_make_say_nothing() -> None:
    run = OriginalRun(Toy(is_zero=False), STAGES, Inputs(torch.zeros_like(TOKENS)), torch.float32)
    result = verify_input("toy", run, Toy(is_zero=False))
    assert {point.reason for point in result.points} == {"nothing to compare: all zeros"}
