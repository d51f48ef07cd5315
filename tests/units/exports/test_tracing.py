"""A model as ``torch.export`` sees it: of any size, and afterwards as it was."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.export import ExportedProgram

from conversion.errors import ExportError
from conversion.exports.torch_program import write_program
from conversion.exports.tracing import Normalization, Traced, quiet
from conversion.families.base import load_family
from conversion.families.variants import VARIANTS
from conversion.suite.exported import select_inputs
from conversion.suite.inputs import list_inputs
from tests.support import golden
from tests.support.exported import trace

MODELS = ("dinov2_tiny", "dinov2_tiny_reg", "dinov3_tiny_swiglu", "data2vec_vision_tiny_ft1k", "depth_anything_v2_tiny")


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest) -> tuple[Traced, ExportedProgram]:
    traced = trace(golden.convert(request.param))
    return traced, traced.export(tapped=True)


def test_the_program_computes_what_the_model_does_at_any_size(exported: tuple[Traced, ExportedProgram]) -> None:
    traced, program = exported
    patch, native, module = traced.spec.patch_size, traced.spec.image_size, program.module()
    others = [(1, 4 * patch, 9 * patch), (2, 6 * patch, 6 * patch)] if traced.is_dynamic else []
    for batch, height, width in [(1, native, native), (3, native, native), *others]:
        pixel_values = torch.randn(batch, 3, height, width)
        with torch.inference_mode():
            expected, actual = traced.model(pixel_values=pixel_values), module(pixel_values)
        for name in traced.returned:
            field, _, index = name.partition(".")
            value = expected[field][int(index)] if index else expected[field]
            assert torch.equal(actual[name], value), (name, height, width)


def test_every_stage_is_looked_at(exported: tuple[Traced, ExportedProgram]) -> None:
    traced, program = exported
    blocks = [f"block.{index}" for index in range(traced.spec.depth)]
    assert {"embeddings", *blocks} <= set(traced.taps.values())
    assert set(program.module()(torch.randn(traced.shape))) == {*traced.returned, *traced.taps}


def test_what_is_changed_in_other_libraries_is_put_back(exported: tuple[Traced, ExportedProgram]) -> None:
    traced, _ = exported
    assert not torch.jit.is_tracing()
    assert all("int" not in vars(sys.modules[type(module).__module__]) for module in traced.model.modules())


def test_nobody_listens_meanwhile_to_what_torch_logs_of_a_trace() -> None:
    """As pytest does, which shows it all under a test that fails."""
    log, listener = logging.getLogger("torch.__trace"), logging.NullHandler()
    log.addHandler(listener)
    try:
        with quiet():
            assert listener not in log.handlers
        assert listener in log.handlers
    finally:
        log.removeHandler(listener)


def test_normalization_is_the_image_processor_s() -> None:
    normalization = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    traced = trace(golden.convert("dinov2_tiny"), normalization)
    images = torch.rand(traced.shape)
    assert traced.input == "images"
    with torch.inference_mode():
        expected = traced.model(pixel_values=normalization.apply(images)).last_hidden_state
        assert torch.equal(traced.export(tapped=False).module()(images)["last_hidden_state"], expected)
    torch.testing.assert_close(normalization.undo(normalization.apply(images)), images)


def test_what_the_program_does_not_take_is_an_error(tmp_path: Path) -> None:
    traced = trace(golden.convert("dinov2_tiny"))
    written = write_program(traced, tmp_path / "model.pt2")
    side = traced.spec.patch_size
    with pytest.raises(ExportError, match=rf"torch program cannot be run on \(1, 3, {side}, {side}\)"):
        written.run(torch.randn(1, 3, side, side))


def test_a_writer_s_own_error_is_one_of_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = trace(golden.convert("dinov2_tiny"))
    monkeypatch.setattr(torch.export, "save", Mock(side_effect=RuntimeError("PytorchStreamWriter failed writing")))
    with pytest.raises(ExportError, match=r"model\.pt2: cannot be written\.\n  - PytorchStreamWriter failed writing"):
        write_program(traced, tmp_path / "model.pt2")


@pytest.mark.parametrize("name", ["dinov2_vits14_nyu_dpt", "dinov2_vits14", "data2vec_vision_base_ft1k"])
def test_every_graph_is_judged_on_several_images(name: str) -> None:
    """Also one of a single image size, whose batch is dynamic all the same."""
    family = load_family(VARIANTS[name].family)
    spec = family.spec_of(VARIANTS[name])
    inputs = list_inputs(spec, family.images.choose_input_size(spec), None)
    subject: Any = SimpleNamespace(inputs=inputs, converted=SimpleNamespace(spec=spec))
    for is_dynamic in {False, bool(spec.any_size and not spec.branches_on_size)}:
        traced: Any = SimpleNamespace(is_dynamic=is_dynamic)
        cases = select_inputs(subject, traced)
        assert [case.batch for case in cases if case.batch > 1] == [3]
        assert is_dynamic or {(case.height, case.width) for case in cases} == {(spec.image_size, spec.image_size)}
