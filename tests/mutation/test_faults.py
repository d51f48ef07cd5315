"""Faults on the whole way through the suite: staged, loaded back, on every input, with both attention implementations.

A few of each kind; all of them, on every tensor, are in ``tests/mutation/test_sensitivity.py``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conversion import Conversion, ConversionError
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.diagnosis import describe_failure
from conversion.parity.faults import exchange_halves, roll_rows, shift_one_element, zero
from conversion.parity.verdict import Verdict
from conversion.suite.cells import verify_cell
from conversion.suite.inputs import InputCase
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.support.edits import Fault, change, drop, exchange_projections, intact, set_config
from tests.support.golden import DATA2VEC_VISION, NUM_HEADS, read_golden

BLOCK = "encoder.layer.1."


@dataclass
class FaultySubject(Subject):
    """A tiny model whose every conversion carries a fault."""

    fault: Fault = field(kw_only=True)

    @property
    def inputs(self) -> list[InputCase]:
        if self.family.name == "dinov2":
            return [InputCase("native", 70, 70, batch=2), InputCase("masked", 42, 42, batch=2, masked=True)]
        return [case for case in super().inputs if not case.photo]

    def convert(self, image_size: int | None) -> Conversion:
        return self.fault(super().convert(image_size))


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[[str, Fault], FaultySubject]]:
    """Make a faulty subject of a golden architecture, with synthetic weights."""
    subjects = []

    def build(name: str, fault: Fault) -> FaultySubject:
        golden = read_golden(name)
        torch.save(draw_state_dict(golden.family, golden.spec, name, 0), tmp_path / "tiny.pth")
        request = Request(checkpoint=tmp_path / "tiny.pth", overrides=golden.overrides)
        subjects.append(FaultySubject(f"{golden.family.name}_custom", request, fault=fault))
        return subjects[-1]

    yield build
    for subject in subjects:
        subject.close()


FAULTS = [
    # fault and model; files and activations notice each
    (partial(exchange_projections, 1, "query", "key"), "dinov2_tiny"),
    (partial(change, f"{BLOCK}attention.attention.key.bias", zero), "dinov2_tiny"),
    (partial(change, f"{BLOCK}mlp.weights_in.weight", exchange_halves), "dinov2_tiny_swiglu"),
    (partial(set_config, "layer_norm_eps", 2e-6), "dinov2_tiny_1layer"),
    (partial(set_config, "layer_norm_eps", 1e-12), "dinov2_tiny_reg"),
    (partial(set_config, "num_attention_heads", 2 * NUM_HEADS), "dinov2_tiny"),
    (partial(change, "embeddings.position_embeddings", roll_rows), "dinov2_tiny_reg"),
    (partial(change, "embeddings.mask_token", zero), "data2vec_vision_tiny"),
    (partial(set_config, "layer_norm_eps", 1e-12), "data2vec_vision_tiny_ft1k"),
    (partial(set_config, "out_indices", [1, 2, 3, 4]), "data2vec_vision_tiny_ade20k"),
    (partial(change, "fpn1.1.num_batches_tracked", shift_one_element), "data2vec_vision_tiny_ade20k"),
]
WITHOUT_FAULT = ["dinov2_tiny", "dinov2_tiny_swiglu", "dinov2_tiny_reg_1layer", *DATA2VEC_VISION]


@pytest.mark.parametrize(("fault", "model"), FAULTS)
def test_a_fault_is_noticed_before_anything_runs(
    fault: Fault, model: str, build: Callable[[str, Fault], FaultySubject]
) -> None:
    subject = build(model, fault)
    with pytest.raises(ConversionError):
        _ = subject.staged


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("fault", "model"), FAULTS)
def test_a_fault_is_noticed_by_the_activations_alone(
    fault: Fault,
    model: str,
    attention: str,
    build: Callable[[str, Fault], FaultySubject],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("conversion.artifact.stage.check_files", lambda *_: None)
    subject = build(model, fault)
    # the original is not converted, so it must not carry the fault
    golden = read_golden(model)
    subject.originals["cpu"] = golden.family.load_original(golden.spec, subject.checkpoints["checkpoint"].state_dict)
    cell = verify_cell(subject, ("cpu", "float32", attention))
    assert cell.verdict is Verdict.FAILED
    assert sum(result.evidence is not None for result in cell.inputs) == 1  # of the first that failed


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model", WITHOUT_FAULT)
def test_without_a_fault_the_same_way_passes(
    model: str, attention: str, build: Callable[[str, Fault], FaultySubject]
) -> None:
    cell = verify_cell(build(model, intact), ("cpu", "float32", attention))
    assert cell.verdict is not Verdict.FAILED, describe_failure(model, attention, cell.inputs)


def test_a_tensor_left_out_does_not_load(build: Callable[[str, Fault], FaultySubject]) -> None:
    subject = build("dinov2_tiny", partial(drop, "encoder.layer.2.layer_scale2.lambda1"))
    with pytest.raises(ConversionError, match=r"missing: encoder\.layer\.2\.layer_scale2"):
        verify_cell(subject, ("cpu", "float32", "sdpa"))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_registers_counted_as_patches_are_noticed(
    attention: str, build: Callable[[str, Fault], FaultySubject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that averages registers with the patches; here the original's, for the comparison has two sides."""
    from conversion.families.dinov2.original import Dinov2

    def part_tokens(self: Dinov2, tokens: Tensor) -> dict[str, Tensor]:
        return {"x_norm_clstoken": tokens[:, 0], "x_norm_patchtokens": tokens[:, 1:]}

    monkeypatch.setattr(Dinov2, "_part_tokens", part_tokens)
    cell = verify_cell(build("dinov2_tiny_reg_1layer", intact), ("cpu", "float32", attention))
    native = cell.inputs[0]
    failed = [point.point for point in native.points if point.verdict is Verdict.FAILED]
    assert failed == ["pooled", "logits", "returned.logits"]
