"""Forward passes that halt at every stage: side by side, in memory that does not grow with depth, errors told apart."""

import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conversion.parity.capture import ForwardPass, StageRun, capture, copy_structure, run_stage
from conversion.parity.compare import Comparison, ConvertedRun, compare
from conversion.parity.metrics import is_bit_equal
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs, Stage
from conversion.parity.precision import Casts
from conversion.parity.turns import THREAD_NAME
from conversion.parity.verdict import Verdict
from conversion.parity.verify import Candidate, InputPlan, verify_together
from tests.support.residual_stack import DEPTH, INPUTS, STAGES, WIDTH, Stack, draw, point
from tests.support.runs import KeptRun, verify_input


@pytest.fixture(autouse=True)
def no_gradients_and_no_thread_left() -> Any:
    with torch.inference_mode():
        yield
    assert not any(thread.name == THREAD_NAME for thread in threading.enumerate())


def test_a_pass_runs_no_further_than_it_is_read() -> None:
    model = Stack()
    run = ForwardPass(model, STAGES, "original", INPUTS)
    assert model.log == []
    run.read(STAGES[0])
    assert model.log == []
    first = run.read(STAGES[1])
    assert model.log == []  # halted within the first block's hooks
    run.read(replace(STAGES[3]))  # it is known by its name, in whosever list
    assert model.log == [0, 1]
    assert is_bit_equal(first.values["block.0"], Stack().blocks[0](INPUTS.pixel_values))
    run.close()
    assert model.log == [0, 1]


def test_a_closed_pass_leaves_the_model_as_it_was() -> None:
    model = Stack()
    run = ForwardPass(model, STAGES, "original", INPUTS, torch.float64)
    run.read(STAGES[2])
    run.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_capture_leaves_the_model_as_it_was() -> None:
    model = Stack()
    first, second = capture(model, STAGES, "original", INPUTS), capture(model, STAGES, "original", INPUTS)
    assert is_bit_equal(first["out"], second["out"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_run_that_is_kept_is_closed() -> None:
    model = Stack()
    reference = weakref.ref(model)
    run = KeptRun(model, STAGES, INPUTS, torch.float32)
    run.read_expected()
    run.read_precise()
    del run, model
    gc.collect()
    assert reference() is None


class Silent(nn.Module):
    """A module that returns nothing, or is called by keyword only."""

    def forward(self, tokens: Tensor) -> None:  # noqa: ARG002
        return None


@pytest.mark.parametrize("by_keyword", [True, False])
def test_a_place_without_a_tensor_is_never_reached(by_keyword: bool) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.silent, self.scale = Silent(), nn.Parameter(torch.ones(1))

        def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
            self.silent(tokens=pixel_values) if by_keyword else self.silent(pixel_values)
            return {"out": pixel_values}

    stage = Stage("silent", (point("in", "silent:input"), point("silent", "silent:output")), "silent", "silent")
    comparison = Comparison(OriginalRun(Model(), [stage, STAGES[-1]], INPUTS, torch.float32))
    compare(ConvertedRun(Model(), INPUTS, comparison.run.stages, [comparison]))
    verdicts = {verdict.point: verdict for verdict in comparison.points}
    assert verdicts["silent"].verdict is Verdict.FAILED
    assert "never reached" in verdicts["silent"].reason
    assert verdicts["in"].verdict is (Verdict.FAILED if by_keyword else Verdict.EXACT)
    assert verdicts["out"].verdict is Verdict.EXACT


def test_a_stage_on_another_number_of_tokens_fails_and_is_not_run_on_the_originals() -> None:
    class Cut(Stack):
        def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
            return super().forward(pixel_values[:, :2])

    comparison = verify(Cut())
    assert {verdict.verdict for verdict in comparison.points} == {Verdict.FAILED}
    assert all("shapes differ" in verdict.reason for verdict in comparison.points)


def test_an_error_in_the_model_comes_out_where_it_is_read() -> None:
    run = ForwardPass(Stack(), STAGES, "original", Inputs(torch.ones(1, 3, WIDTH + 1)))
    run.read(STAGES[0])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run.read(STAGES[1])


def test_what_was_handed_over_is_not_kept() -> None:
    run = ForwardPass(Stack(), STAGES, "original", INPUTS)
    kept = [weakref.ref(run.read(stage).values[stage.points[0].name]) for stage in STAGES[1:-1]]
    gc.collect()
    assert [reference() is None for reference in kept[:-1]] == [True] * (DEPTH - 1)
    run.close()


def test_stages_that_are_passed_over_are_not_kept() -> None:
    run = ForwardPass(Stack(), STAGES, "original", INPUTS)
    run.read(STAGES[4])
    assert list(run._runs) == ["block.4", "out"]
    run.close()


def test_two_passes_go_side_by_side_and_compute_what_each_does_alone() -> None:
    model = Stack()
    runs = [ForwardPass(copy_structure(model), STAGES, "original", INPUTS, dtype) for dtype in (None, torch.float64)]
    read = [[run.read(stage) for run in runs] for stage in STAGES]
    for run in runs:
        run.close()
    for column, dtype in enumerate((None, torch.float64)):
        alone = capture(Stack(), STAGES, "original", INPUTS, dtype)
        together = {name: value for row in read for name, value in row[column].values.items()}
        assert all(is_bit_equal(alone[name], together[name]) for name in alone)
        assert len(alone) == 2 + 2 * DEPTH


def test_a_copy_of_the_structure_shares_tensors_and_nothing_else() -> None:
    model = Stack()
    other: Any = copy_structure(model)
    other.blocks[0].shift = 1.0
    assert model.blocks[0].shift == 0.0
    assert all(left is right for left, right in zip(model.parameters(), other.parameters(), strict=True))


def test_a_stage_can_be_run_by_itself() -> None:
    tokens = torch.ones(1, 3, WIDTH)
    values = run_stage(Stack(), STAGES[2], "original", ((tokens,), {}))
    assert is_bit_equal(values["block.1"], Stack().blocks[1](tokens))
    assert set(values) == {"block.1.linear", "block.1"}
    double = run_stage(Stack(), STAGES[2], "original", ((tokens,), {}), torch.float64)
    assert double["block.1"].dtype == torch.float64


def verify(converted: nn.Module) -> Comparison:
    comparison = Comparison(OriginalRun(Stack(), STAGES, INPUTS, torch.float32))
    compare(ConvertedRun(converted, INPUTS, comparison.run.stages, [comparison]))
    return comparison


def test_the_same_model_is_exact_at_every_point() -> None:
    comparison = verify(Stack())
    assert {verdict.verdict for verdict in comparison.points} == {Verdict.EXACT}
    assert len(comparison.points) == 2 + 2 * DEPTH
    assert comparison.evidence is None


def test_the_guilty_block_stands_out() -> None:
    """What comes after it is off as well, by itself it is not."""
    faulty = Stack()
    faulty.blocks[2].shift = 0.1
    comparison = verify(faulty)
    points = {verdict.point: verdict for verdict in comparison.points}
    off = [name for name, verdict in points.items() if verdict.difference and verdict.difference.max_abs > 0.01]
    locally_off = [name for name, verdict in points.items() if verdict.local and verdict.local.max_abs > 0.01]
    assert off == ["block.2", "block.3.linear", "block.3", "block.4.linear", "block.4", "out"]
    assert locally_off == ["block.2"]
    assert points["out"].local is None  # no module computes it alone
    assert comparison.evidence is not None
    assert comparison.evidence.point.name == "block.2"


def test_inputs_side_by_side_come_to_what_each_does_alone() -> None:
    """Each with its own number of tokens, and one that ends before the others."""
    faulty = Stack()
    faulty.blocks[3].shift = 1e-7
    original, casts = Stack(), Casts()
    runs = [OriginalRun(original, STAGES, draw(tokens), torch.float32, casts=casts) for tokens in (3, 5)]
    runs.append(OriginalRun(original, STAGES[:-2], draw(4), torch.float32, casts=casts))
    plans = [InputPlan(str(index), run, [Candidate(Stack()), Candidate(faulty)]) for index, run in enumerate(runs)]
    steps: list[str] = []
    together = verify_together(plans, at=steps.append)
    for plan, results in zip(plans, together, strict=True):
        run = replace(plan.run, casts=Casts())
        assert results == [verify_input(plan.name, run, candidate.converted) for candidate in plan.candidates]
        assert [result.verdict for result in results] == [Verdict.EXACT, Verdict.CLOSE]
    assert steps == [stage.name for stage in STAGES]


def test_inputs_side_by_side_have_their_weights_cast_once(monkeypatch: pytest.MonkeyPatch) -> None:
    original, casts, asked = Stack(), Casts(), []
    cast = casts.cast
    monkeypatch.setattr(casts, "cast", lambda weight, dtype: asked.append(cast(weight, dtype)) or asked[-1])
    faulty = Stack()
    faulty.blocks[0].shift = 1e-7
    runs = [OriginalRun(original, STAGES, draw(tokens), torch.float32, casts=casts) for tokens in (3, 4, 5)]
    verify_together([InputPlan("any", run, [Candidate(faulty)]) for run in runs])
    assert len(asked) == 3 * 2 * DEPTH
    assert len({id(weight) for weight in asked}) == 2 * DEPTH


def test_a_late_yardstick_starts_from_the_beginning() -> None:
    """It is not asked before the first difference, and must have all that came before it."""
    faulty = Stack()
    faulty.blocks[4].shift = 1e-7
    close = next(verdict for verdict in verify(faulty).points if verdict.point == "block.4")
    assert close.original_error is not None
    assert close.original_error.rms < 1e-6


def test_a_run_that_is_kept_is_computed_once() -> None:
    model = Stack()
    run = KeptRun(model, STAGES, INPUTS, torch.float32)
    first: StageRun = run.read_expected().read(STAGES[1])
    assert run.read_expected().read(STAGES[1]) is first


def test_an_attribute_that_is_not_there_is_no_counterfactual() -> None:
    run = OriginalRun(Stack(), STAGES, INPUTS, torch.float32, {"offset": 1.0})
    with pytest.raises(AttributeError, match="no attribute 'offset'"):
        run.read_expected()
