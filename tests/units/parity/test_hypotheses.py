"""Hypotheses on every kind of tensor that a model may have: counters of no dimension, flags, integers, empty ones."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from conversion.parity.capture import copy_structure
from conversion.parity.compare import Evidence
from conversion.parity.diagnosis import arose_here, describe_failure, find_explanation
from conversion.parity.faults import TENSOR_FAULTS, exchange_parts
from conversion.parity.hypotheses import list_hypotheses
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import CapturePoint, Inputs, Stage
from tests.support.runs import verify_input

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (3,), (4, 4), (2, 3, 4))


@pytest.mark.parametrize(("dtype", "shape"), list(product(DTYPES, SHAPES)))
@pytest.mark.parametrize("kind", TENSOR_FAULTS)
def test_every_fault_takes_every_tensor(kind: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(dtype)
    before = tensor.clone()
    changed = TENSOR_FAULTS[kind](tensor)
    assert changed is None or (changed.shape, changed.dtype) == (tensor.shape, tensor.dtype)
    assert torch.equal(tensor, before)


class Layer(nn.Module):
    """A projection, and buffers of all kinds."""

    def __init__(self, count: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(count)
        self.linear = nn.Linear(6, 6)
        self.linear.weight = nn.Parameter(torch.randn(6, 6, generator=generator))
        self.linear.bias = nn.Parameter(torch.randn(6, generator=generator))
        self.register_buffer("num_batches_tracked", torch.tensor(count))
        self.register_buffer("is_trained", torch.tensor(data=True))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("index", torch.arange(6 + count))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(tokens) * self.scale


class Model(nn.Module):
    """Two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(3), Layer(5)])

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.layers[1](self.layers[0](pixel_values))


POINTS = ("num_batches_tracked", "is_trained", "scale", "index", "output")
STAGES = [
    Stage(
        f"layers.{i}",
        tuple(CapturePoint(f"{i}.{name}", *[f"layers.{i}:{name}"] * 2, (f"layers.{i}.*",)) for name in POINTS),
        f"layers.{i}",
        f"layers.{i}",
    )
    for i in range(2)
]
INPUTS = Inputs(torch.randn(2, 6, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("name", "value", "explanation"),
    [
        ("num_batches_tracked", torch.tensor(4), "one element off by 10 % of a standard deviation"),
        ("num_batches_tracked", torch.tensor(5), "is that of layers.1.num_batches_tracked"),
        ("num_batches_tracked", torch.tensor(99), None),
        ("scale", torch.tensor(-1.0), "sign flipped"),
    ],
)
def test_a_counter_that_is_off_is_searched_for_an_explanation(
    name: str, value: Tensor, explanation: str | None
) -> None:
    original, converted = Model(), Model()
    setattr(converted.layers[0], name, value)
    result = verify_input("toy", OriginalRun(original, STAGES, INPUTS, torch.float32), converted)
    assert result.evidence is not None
    assert result.evidence.point.name == f"0.{name}"
    found = find_explanation(result.evidence)
    assert found == (f"layers.0.{name} {explanation}" if explanation else None)
    assert "failed" in describe_failure("toy", "cpu", [result])


@pytest.fixture
def evidence() -> Evidence:
    """Of a counter that is one too large."""
    converted = Model()
    converted.layers[0].num_batches_tracked += 1  # type: ignore[operator]
    result = verify_input("toy", OriginalRun(Model(), STAGES, INPUTS, torch.float32), converted)
    assert result.evidence is not None
    return result.evidence


def test_every_hypothesis_can_be_put_in(evidence: Evidence) -> None:
    hypotheses = list(list_hypotheses(evidence))
    for hypothesis in hypotheses:
        hypothesis.inject(copy_structure(evidence.run.model))
    assert len(hypotheses) > 50


def test_what_cannot_be_run_by_itself_is_neither_blamed_nor_explained(evidence: Evidence) -> None:
    assert (arose_here(evidence), bool(find_explanation(evidence))) == (True, True)
    alone = replace(evidence, local=None)
    assert (arose_here(alone), find_explanation(alone)) == (True, None)


def test_a_hypothesis_for_which_memory_does_not_suffice_ends_the_search(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: type[Exception]) -> None:
        def run(*_: object) -> None:
            raise error

        monkeypatch.setattr("conversion.parity.diagnosis.run_stage", run)

    fail(RuntimeError)
    assert find_explanation(evidence) is None
    fail(torch.OutOfMemoryError)
    with pytest.raises(torch.OutOfMemoryError):
        find_explanation(evidence)


def test_parts_that_are_not_equal_are_not_exchanged() -> None:
    rows = torch.arange(6.0)
    assert exchange_parts(rows, (1, 0, 2)).tolist() == [2, 3, 0, 1, 4, 5]  # type: ignore[union-attr]
    assert exchange_parts(rows, (1, 0, 2, 3)) is None
    assert exchange_parts(torch.tensor(1.0), (1, 0)) is None
