"""Exact wherever the weights lie: where a product rounds by that, it is compared once more on aligned copies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import conversion
from conversion.artifact.load import load_model
from conversion.artifact.stage import save_artifact
from conversion.families.base import load_family
from conversion.parity import verify
from conversion.parity.alignment import copy_aligned, find_misaligned, is_aligned
from conversion.parity.deviations import Deviation
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs
from conversion.parity.verdict import Verdict
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from tests.support.golden import read_golden
from tests.support.misaligned import misplace, place, shift_tensors
from tests.support.net_in_context import INPUTS, STAGES, Net
from tests.support.processors import PROCESSORS, run_code
from tests.support.runs import KeptRun, verify_input


class Careless(nn.Linear):
    """Rounds otherwise where its weight is not aligned; ``shift`` is a fault or a counterfactual's attribute."""

    shift = 0.0

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * (1 if is_aligned(self.weight) else 1 + 1.2e-7) + self.shift


class CarelessNet(Net):
    def __init__(self) -> None:
        super().__init__()
        for block in self.blocks:
            block.__class__ = Careless

    @property
    def shift(self) -> float:
        return float(self.blocks[1].shift)  # type: ignore[arg-type]

    @shift.setter
    def shift(self, shift: float) -> None:
        self.blocks[1].shift = shift


def build_run(original: nn.Module, dtype: torch.dtype = torch.float32, **options: Any) -> OriginalRun:
    return OriginalRun(original, STAGES, INPUTS, dtype, **options)


def off(model: nn.Module) -> nn.Module:
    return misplace(model)


def refuse(_model: nn.Module) -> nn.Module:
    raise AssertionError("nothing is to be copied")


def intact(model: nn.Module) -> nn.Module:
    return model


@pytest.mark.parametrize(("original", "converted"), [(intact, off), (off, intact)])
@pytest.mark.parametrize("kind", [OriginalRun, KeptRun])
def test_what_lies_elsewhere_on_one_side_is_exact_once_it_is_aligned(
    original: Callable[[nn.Module], nn.Module], converted: Callable[[nn.Module], nn.Module], kind: type[OriginalRun]
) -> None:
    run = kind(original(CarelessNet()), STAGES, INPUTS, torch.float32)
    result = verify_input("any", run, converted(CarelessNet()))
    assert (result.verdict, result.aligned) == (Verdict.EXACT, True)


@pytest.mark.parametrize("side", [intact, off])
def test_what_is_exact_where_it_lies_is_not_run_again(
    side: Callable[[nn.Module], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "copy_aligned", refuse)
    result = verify_input("any", build_run(side(CarelessNet())), side(CarelessNet()))
    assert (result.verdict, result.aligned) == (Verdict.EXACT, False)


def test_what_is_close_with_all_aligned_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "copy_aligned", refuse)
    converted = CarelessNet()
    converted.shift = 5e-8
    result = verify_input("any", build_run(CarelessNet()), converted)
    assert (result.verdict, result.aligned) == (Verdict.CLOSE, False)


@pytest.mark.parametrize(("shift", "verdict"), [(5e-8, Verdict.CLOSE), (1e-2, Verdict.FAILED)])
def test_what_is_not_exact_when_aligned_stays_what_it_was(shift: float, verdict: Verdict) -> None:
    converted = CarelessNet()
    converted.shift = shift
    off(converted.blocks[2])
    result = verify_input("any", build_run(CarelessNet()), converted)
    assert (result.verdict, result.aligned) == (verdict, False)
    assert (result.evidence is not None) == (verdict is Verdict.FAILED)


def test_a_deviation_is_judged_under_its_counterfactual_with_aligned_weights() -> None:
    converted = CarelessNet()
    converted.shift = 0.5
    known = Deviation("shift", "here", "it shifts", "0.5", "the same", "none", {"shift": 0.5})
    result = verify_input("any", build_run(CarelessNet()), off(converted), known)
    assert (result.verdict, result.deviation, result.aligned) == (Verdict.EXACT, "shift", True)
    assert {point.verdict for point in result.points} == {Verdict.EXACT}


def test_only_those_are_run_again_that_need_it() -> None:
    elsewhere, steps = Inputs(INPUTS.pixel_values + 1), list[str]()
    faulty = CarelessNet()
    faulty.shift = 5e-8
    plans = [
        InputPlan("one", build_run(CarelessNet()), [Candidate(CarelessNet()), Candidate(off(CarelessNet()))]),
        InputPlan("two", OriginalRun(CarelessNet(), STAGES, elsewhere, torch.float32), [Candidate(faulty)]),
    ]
    results = verify_together(plans, at=steps.append)
    found = [[(result.name, result.verdict, result.aligned) for result in row] for row in results]
    assert found == [
        [("one", Verdict.EXACT, False), ("one", Verdict.EXACT, True)],
        [("two", Verdict.CLOSE, False)],
    ]
    assert steps == [stage.name for stage in STAGES] + [f"{stage.name}, weights aligned" for stage in STAGES]


def test_a_copy_shares_what_is_aligned_and_what_was_shared() -> None:
    model = Net()
    model.blocks[1].weight = model.blocks[0].weight = nn.Parameter(place(model.blocks[0].weight.data, 8))
    model.blocks[2].register_buffer("table", place(torch.ones(3, 3), 4))
    model.blocks[2].register_buffer("index", place(torch.arange(3), 8))
    copy = copy_aligned(model)
    for (name, mine), (_, theirs) in zip(model.state_dict().items(), copy.state_dict().items(), strict=True):
        assert torch.equal(mine, theirs)
        assert (mine.data_ptr() == theirs.data_ptr()) == (is_aligned(mine) or not mine.is_floating_point()), name
    blocks: Any = copy.blocks
    assert blocks[0].weight is blocks[1].weight
    assert isinstance(blocks[0].weight, nn.Parameter)
    assert find_misaligned(copy, torch.float32) is None
    assert not is_aligned(model.blocks[0].weight)


def test_a_matrix_counts_in_the_dtype_that_is_run() -> None:
    model = Net()
    model.blocks[1].bias = nn.Parameter(place(model.blocks[1].bias.data, 8))
    assert find_misaligned(model, torch.float32) is None
    model.blocks[1].weight = nn.Parameter(place(model.blocks[1].weight.data, 8))
    assert find_misaligned(model, torch.float32) == "blocks.1.weight"
    assert find_misaligned(model, torch.bfloat16) is None


def verify_folder(folder: Path) -> list[InputVerdict]:
    """A folder that was written from a golden classifier, beside its original, on one image at a time."""
    golden = read_golden("dinov2_tiny_1layer")
    family = load_family("dinov2")
    out = conversion.convert(golden.state_dict, **golden.overrides)
    save_artifact(out, folder)
    shift_tensors(folder / "model.safetensors")
    model = load_model(folder, attention=family.choose_attention())
    assert find_misaligned(model, torch.float32)
    stages = family.list_stages(out.spec, masked=False)
    native = (out.spec.image_size, out.spec.image_size)
    images = [case.inputs.pixel_values for case in golden.cases if case.inputs.pixel_values.shape[2:] == native]
    source = {key: tensor.clone() for key, tensor in out.source.items()}
    runs = [
        OriginalRun(family.load_original(out.spec, source, None), stages, Inputs(one), torch.float32)
        for one in images[0].split(1)
    ]
    return [verify_input("native", run, model) for run in runs]


def test_a_folder_whose_file_is_not_aligned_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for a product that rounds by where its matrix lies, whatever this processor does."""
    linear = F.linear

    def round_by_place(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = linear(tokens, weight, bias)
        return product if is_aligned(weight) or tokens.dim() > 2 else product * (1 + 1.2e-7)

    monkeypatch.setattr(F, "linear", round_by_place)
    results = verify_folder(tmp_path / "tiny")
    assert results
    assert {(result.verdict, result.aligned) for result in results} == {(Verdict.EXACT, True)}


VERIFY = """
import sys
from pathlib import Path
from tests.units.parity.test_alignment import verify_folder
print(*(f"{result.verdict}/{result.aligned}" for result in verify_folder(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_folder_whose_file_is_not_aligned_is_exact_under_each_instruction_set(processor: str, tmp_path: Path) -> None:
    """The real thing: under the last, MKL's matrix-vector product rounds by where the matrix lies on Intel, too."""
    (found,) = run_code(VERIFY, processor, 1, str(tmp_path / "tiny"))
    assert {each.partition("/")[0] for each in found.split()} == {"exact"}
