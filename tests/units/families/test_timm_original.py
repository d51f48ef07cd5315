"""timm's own code as the original, held against models that timm makes and writes itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conversion.artifact.load import load_converted
from conversion.errors import CheckpointError, KeyMapError
from conversion.families.base import load_family
from conversion.families.told import Told, ToldStateDict
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from tests.support.timm_models import (
    HEADS,
    PUBLIC,
    Written,
    convert,
    list_verdicts,
    narrow,
    verify,
    write,
)


@pytest.mark.parametrize("gamma", [1.0, 1e-5])
@pytest.mark.parametrize("name", PUBLIC)
def test_the_converted_model_is_timms(name: str, gamma: float, tmp_path: Path) -> None:
    written = write(tmp_path, *narrow(name), gamma=gamma)
    for is_described in (True, False):
        result = verify(written, 2, is_described=is_described)
        assert [point.point for point in result.points if not point.difference] == []
        assert list_verdicts(result) <= {Verdict.EXACT, Verdict.CLOSE}
        inexact = [point.point for point in result.points if point.verdict is not Verdict.EXACT]
        # timm takes SiLU of half a tensor, row by row, and torch computes the last columns of a row otherwise; where
        # the half is no whole number of vectors wide, as these are, transformers' own tensor has them elsewhere
        assert inexact[:1] in ([[]] if name == "uni" else [[], ["block.0.mlp"]])
    assert list_verdicts(verify(written, 2, "eager")) <= {Verdict.EXACT, Verdict.CLOSE}


@pytest.mark.parametrize("name", ["uni", "uni2-h", "virchow2"])
def test_another_size_differs_by_the_antialias_of_timm_alone(name: str, tmp_path: Path) -> None:
    written = write(tmp_path, *narrow(name))
    patch = written.model.patch_embed.patch_size[0]  # type: ignore[union-attr, index]
    result = verify(written, 2, height=3 * patch)
    assert list_verdicts(result) <= {Verdict.EXACT, Verdict.CLOSE}
    assert bool(result.otherwise) == (name == "uni")


@pytest.mark.parametrize("name", ["uni", "uni2-h", "virchow2"])
def test_the_original_is_timms_model(name: str, tmp_path: Path) -> None:
    """Whatever makes it take and return what the bundled original does changes nothing."""
    written = write(tmp_path, *narrow(name))
    original = load(written)
    patch = written.model.patch_embed.patch_size[0]  # type: ignore[union-attr, index]
    pixel_values = torch.randn(2, 3, 5 * patch, 5 * patch, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens, expected = join(original(pixel_values)), written.model.forward_features(pixel_values)  # type: ignore[operator]
    assert is_bit_equal(tokens, expected)
    assert original.state_dict().keys() == written.model.state_dict().keys()
    with pytest.raises(ValueError, match="no mask token"):
        original(pixel_values, torch.zeros(2, 25, dtype=torch.bool))


def test_registers_with_their_positions_added_are_timms_bit_for_bit(tmp_path: Path) -> None:
    """In float32, in which they were added; in float64 by half a unit in the last place of float32."""
    architecture, arguments = narrow("virchow2")
    # whose hidden layer is a whole number of vectors wide: else torch takes SiLU of its last columns otherwise
    written = write(tmp_path, architecture, {**arguments, "mlp_ratio": 4})
    assert list_verdicts(verify(written, 2)) == {Verdict.EXACT}
    model: Any = load_converted(convert(written, 2), attention="sdpa")
    timms: Any = written.model
    pixel_values = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert is_bit_equal(model(pixel_values).last_hidden_state, timms.forward_features(pixel_values))
        wide = pixel_values.double()
        ours, theirs = model.double().embeddings(wide), timms.double()._pos_embed(timms.patch_embed(wide))
    off = (ours - theirs).abs()
    assert is_bit_equal(ours[:, 5:], theirs[:, 5:])  # of the patches
    assert is_bit_equal(ours[:, 0], theirs[:, 0])  # of the CLS token, whose position is not added beforehand
    assert 0 < off.max() <= (theirs.abs() * 2.0**-24).max()
    assert bool((off <= theirs.abs() * 2.0**-24).all())
    [step] = [step.did for step in written.checkpoint.steps if step.name == "translate"]
    assert "each sum is rounded to float32, as timm's is in a float32 model, by at most half a unit in the" in step


@pytest.mark.parametrize("name", ["uni", "uni2-h", "virchow2"])
@pytest.mark.parametrize("grid", [(5, 5), (3, 3), (3, 5)])
def test_a_counterfactual_resamples_as_told(name: str, grid: tuple[int, int], tmp_path: Path) -> None:
    """Set to what timm does by a hair's breadth, the adapter's own step gives what timm's gives."""
    written = write(tmp_path, *narrow(name))
    original: Any = load(written)
    patch = written.model.patch_embed.patch_size[0]  # type: ignore[union-attr, index]
    pixel_values = torch.randn(1, 3, grid[0] * patch, grid[1] * patch, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        timms = join(original(pixel_values))
        original.interpolate_offset = -0.0 + 1e-12
        assert torch.allclose(join(original(pixel_values)), timms, atol=1e-4)
        original.interpolate_antialias = False
        original.interpolate_offset = 0.0
        blurred = join(original(pixel_values))
    assert is_bit_equal(blurred, timms) == (grid == (5, 5))


def load(written: Written) -> nn.Module:
    out = convert(written, 2)
    assert written.checkpoint.untranslated is not None
    return load_family("dinov2").load_timm(out.spec, written.checkpoint.untranslated, written.description)


def join(outputs: dict[str, Tensor]) -> Tensor:
    return torch.cat(
        (outputs["x_norm_clstoken"].unsqueeze(1), outputs["x_norm_regtokens"], outputs["x_norm_patchtokens"]), 1
    )


def test_a_wrong_number_of_heads_fails_at_the_first_attention(tmp_path: Path) -> None:
    """Width 1280 has 20 heads of the usual width; Virchow's are 16."""
    architecture, arguments = PUBLIC["virchow"]
    written = write(tmp_path, architecture, {**arguments, "depth": 1, "img_size": 42})
    result = verify(written, 20)
    failed = [point.point for point in result.points if point.verdict is Verdict.FAILED]
    assert failed[0] == "block.0.attention"
    assert list_verdicts(verify(written, 16)) <= {Verdict.EXACT, Verdict.CLOSE}
    # without its config.json timm's class is built with the heads that were told, and the two agree
    assert list_verdicts(verify(written, 20, is_described=False)) <= {Verdict.EXACT, Verdict.CLOSE}


def test_a_described_activation_is_timms_own(tmp_path: Path) -> None:
    """Timm gates with GELU where a config.json names the gated layer, and no activation."""
    architecture, arguments = narrow("virchow")
    del arguments["act_layer"]
    written = write(tmp_path, architecture, arguments)
    with pytest.raises(CheckpointError, match=r"hidden_act: config\.json, vit_huge_.* says 'gelu'; only 'silu' is"):
        convert(written, 2)
    read = written.checkpoint.state_dict
    other = ToldStateDict(read, {**read.told, "hidden_act": Told("silu", "a file of another model")}, read.writer)
    result = verify(replace(written, checkpoint=replace(written.checkpoint, state_dict=other)), 2)
    assert next(point.point for point in result.points if point.verdict is Verdict.FAILED) == "block.0.mlp"


def test_projections_without_a_bias_are_timms(tmp_path: Path) -> None:
    architecture, arguments = narrow("uni")
    written = write(tmp_path, architecture, {**arguments, "proj_bias": False})
    assert not convert(written, 2).spec.proj_bias
    for is_described in (True, False):
        assert list_verdicts(verify(written, 2, is_described=is_described)) == {Verdict.EXACT}


def test_a_model_of_real_width_is_timms(tmp_path: Path) -> None:
    architecture, arguments = PUBLIC["uni"]
    written = write(tmp_path, architecture, {**arguments, "depth": 4})
    assert list_verdicts(verify(written, HEADS["uni"])) == {Verdict.EXACT}


def test_a_model_that_does_not_fit_is_one_clear_error(tmp_path: Path) -> None:
    written = write(tmp_path, *narrow("uni"))
    family, untranslated = load_family("dinov2"), dict(written.checkpoint.untranslated or {})
    spec = convert(written, 2).spec
    with pytest.raises(KeyMapError, match=r"(?s)missing: blocks\.2\.norm1\.weight \(128,\).*--original bundled"):
        deeper = {**written.description, "model_args": {**written.description["model_args"], "depth": 3}}
        family.load_timm(spec, untranslated, deeper)
    with pytest.raises(KeyMapError, match=r"unexpected: mask_token \(1, 128\)"):  # as the authors write it
        whole = untranslated | {"mask_token": torch.zeros(1, 128)}
        family.load_timm(spec, whole, written.description)
    with pytest.raises(KeyMapError, match=r"norm\.weight: \(127,\), not \(128,\)"):
        family.load_timm(spec, {**untranslated, "norm.weight": torch.zeros(127)}, written.description)
    with pytest.raises(
        CheckpointError, match=r"(?s)cannot build vit_nowhere, which config\.json names.*\nMove that file away"
    ):
        family.load_timm(spec, untranslated, {"architecture": "vit_nowhere"})
    with pytest.raises(CheckpointError, match=r"(?s)cannot build.*mlp_layer=Nowhere"):
        family.load_timm(spec, untranslated, {**written.description, "model_args": {"mlp_layer": "Nowhere"}})
    with pytest.raises(
        CheckpointError, match=r"cannot build its VisionTransformer\.\n.*\n.*--original bundled"
    ) as raised:
        family.load_timm(replace(spec, num_heads=3), untranslated)
    assert "num_heads" in raised.value.problems[0]
    with pytest.raises(CheckpointError, match="no classifier on the CLS token and the mean of patches"):
        family.load_timm(replace(spec, num_classes=5), untranslated)
    with pytest.raises(CheckpointError, match="timm has no dinov2 models"):
        replace(family, build_timm=None).load_timm(spec, untranslated)
