"""DINOv3 as timm writes it: brought back to the original's keys, and held against timm's own model."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import conversion
from conversion.errors import CheckpointError
from conversion.families.dinov3 import timm as dinov3_timm
from conversion.intake.checkpoint import read_checkpoint
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from tests.support.commands import run
from tests.support.timm_dinov3 import FAMILY, MADE, PLAIN, SMALL, convert, draw_images, join, load_timm, make, verify
from tests.support.timm_models import list_verdicts, write


@pytest.mark.parametrize("name", MADE)
def test_the_translated_is_timms_model(name: str, tmp_path: Path) -> None:
    """Bit for bit in float32. In float64 timm multiplies places with 2 pi in float64, the original in float32."""
    written = make(name, tmp_path)
    out, timms = convert(written), written.model
    bundled: Any = FAMILY.load_original(out.spec, out.source)
    with torch.inference_mode():
        assert is_bit_equal(join(bundled(draw_images())), timms.forward_features(draw_images()))  # type: ignore[operator]
    bundled, exact = bundled.double(), timms.double()
    wide = draw_images(torch.float64)
    with torch.inference_mode():
        expected: Tensor = exact.forward_features(wide)  # type: ignore[operator]
        off = (join(bundled(wide)) - expected).abs().max()
        bundled.rope_embed.forward = lambda *grid: exact.rope.get_embed(list(grid)).chunk(2, dim=-1)  # type: ignore[union-attr, operator]
        still_off = (join(bundled(wide)) - expected).abs().max()
    assert 1e-10 < off < 1e-5
    assert still_off <= 1e-12


@pytest.mark.parametrize("name", MADE)
def test_the_converted_is_timms_model(name: str, tmp_path: Path) -> None:
    written = make(name, tmp_path)
    for attention, dtype in (("sdpa", "float32"), ("eager", "float32"), ("sdpa", "float64")):
        result = verify(written, attention, dtype)
        assert list_verdicts(result) <= {Verdict.EXACT, Verdict.CLOSE}
        assert [point.point for point in result.points if not point.difference] == []
        assert result.deviation == "rope-periods-rounded"
        assert result.otherwise["returned.last_hidden_state"].max_abs < 1e-5  # these are not rounded
    assert {"block.1.q", "block.1.k", "block.1.v"} <= {point.point for point in result.points}
    assert ("block.1.gate" in {point.point for point in result.points}) == ("gated" in name or name == "packed")


@pytest.mark.parametrize("name", MADE)
def test_periods_are_those_that_timm_computes(name: str, tmp_path: Path) -> None:
    """In float32; the official files of the authors have them rounded to bfloat16."""
    written = make(name, tmp_path)
    periods = written.checkpoint.state_dict["rope_embed.periods"]
    theirs: Any = written.model.rope
    assert periods.dtype == torch.float32
    assert is_bit_equal(periods, theirs.periods)
    assert not torch.equal(periods, periods.bfloat16().float())
    assert convert(written).config.rope_theta == (10 if name == "another base" else 100)


@pytest.mark.parametrize("name", MADE)
def test_the_original_is_timms_model(name: str, tmp_path: Path) -> None:
    """Whatever makes it take and return what the bundled original does changes nothing."""
    written = make(name, tmp_path)
    original = load_timm(written)
    with torch.inference_mode():
        assert is_bit_equal(join(original(draw_images())), written.model.forward_features(draw_images()))  # type: ignore[operator]
    assert original.state_dict().keys() == written.model.state_dict().keys()
    with pytest.raises(ValueError, match="no mask token"):
        original(draw_images(), torch.zeros(2, 28, dtype=torch.bool))


@pytest.mark.parametrize("name", MADE)
def test_restored_it_is_timms_file(name: str, tmp_path: Path) -> None:
    make(name, tmp_path / "timm")
    with warnings.catch_warnings(action="ignore"):
        out = conversion.convert(conversion.load_checkpoint(tmp_path / "timm"))
        conversion.save_artifact(out, tmp_path / "artifact")
        restored = read_checkpoint(tmp_path / "artifact").state_dict
    theirs = load_file(tmp_path / "timm" / "model.safetensors")
    back = name_as_timm(restored, is_packed=name == "packed")
    assert back.keys() == theirs.keys()
    assert all(is_bit_equal(tensor, back[key]) for key, tensor in theirs.items())


def name_as_timm(state_dict: dict[str, Tensor], *, is_packed: bool) -> dict[str, Tensor]:
    """The tables of the translation, read from right to left."""
    tables: dict[str, str] = {**dinov3_timm.RENAMED, **dinov3_timm.PARTS, **dinov3_timm.SWIGLU}
    named: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        if key == dinov3_timm.PERIODS or key.endswith(dinov3_timm.MASK):
            continue
        if key.endswith(dinov3_timm.FUSED_BIAS):
            block, thirds = key.removesuffix(dinov3_timm.FUSED_BIAS), tensor.chunk(3)
            named |= {block + dinov3_timm.QUERY_BIAS: thirds[0], block + dinov3_timm.VALUE_BIAS: thirds[2]}
            assert not thirds[1].any()
            continue
        if is_packed and ".mlp.w1." in key:
            named[key.replace(".w1.", ".fc1.")] = torch.cat((tensor, state_dict[key.replace(".w1.", ".w2.")]))
            continue
        for theirs, ours in tables.items():
            key = key.replace(ours, theirs)
        if not (is_packed and ".mlp.fc1_x." in key):
            named[key] = tensor
    return named


@pytest.mark.parametrize("name", ["plain", "biases"])
def test_the_config_says_which_biases_there_are(name: str, tmp_path: Path) -> None:
    out = convert(make(name, tmp_path))
    has_biases = name == "biases"
    assert (out.config.query_bias, out.config.key_bias, out.config.value_bias) == (has_biases, False, has_biases)
    assert ("layer.0.attention.q_proj.bias" in out.state_dict) == has_biases
    assert "layer.0.attention.k_proj.bias" not in out.state_dict
    assert any("cannot be masked" in note for note in out.notes)


@pytest.mark.parametrize(
    ("architecture", "mean"),
    [(PLAIN, (0.485, 0.456, 0.406)), ("vit_large_patch16_dinov3.sat493m", (0.430, 0.411, 0.296))],
)
def test_config_json_tells_what_no_tensor_does(architecture: str, mean: tuple[float, ...], tmp_path: Path) -> None:
    small = {name: value for name, value in SMALL.items() if name != "img_size"}
    out = convert(write(tmp_path, architecture, small))
    assert (out.spec.num_heads, out.spec.layer_norm_eps, out.spec.rope_theta) == (2, 1e-5, 100)
    assert (out.spec.crop_pct, out.spec.interpolation, out.spec.input_size) == (1.0, "bicubic", 256)
    assert tuple(out.preprocessor["image_mean"]) == mean  # type: ignore[arg-type]
    assert out.preprocessor["size"] == {"height": 256, "width": 256}
    assert out.preprocessor["resample"] == 3
    assert {each.by for name, each in out.told.items() if name != "hidden_act"} == {
        f"config.json, {architecture.partition('.')[0]}"
    }


def test_images_that_are_resized_whole_are_what_the_image_processor_makes(tmp_path: Path) -> None:
    """LingBot-Vision's are, by timm's crop_mode 'squash'; its model computes what DINOv3's does."""
    try:
        written = write(tmp_path, "vit_small_patch16_lingbot", {**SMALL, "img_size": 512})
    except RuntimeError:
        pytest.skip("this timm has no LingBot-Vision")
    assert list_verdicts(verify(written)) == {Verdict.EXACT}
    out = convert(written)
    assert (out.input_size, out.preprocessor["size"]) == (512, {"height": 512, "width": 512})
    assert out.preprocessor["resample"] == 2
    with pytest.raises(CheckpointError, match="crop_mode: 'border', only 'center' or 'squash' is supported"):
        describe(tmp_path, crop_mode="border")


def describe(folder: Path, **changes: Any) -> None:
    """Read it again with other words in its ``config.json``."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["pretrained_cfg"] |= changes
    path.write_text(json.dumps(content))
    conversion.load_checkpoint(folder)


def test_a_model_of_real_width_becomes_a_verified_artifact(tmp_path: Path) -> None:
    write(tmp_path / "run", PLAIN, {"depth": 2})
    code, output = run(tmp_path, "--checkpoint", "run", "--original", "timm", "--save-artifacts", "--attention", "sdpa")
    assert code == 0, output
    card = json.loads((tmp_path / "artifacts" / "dinov3_custom" / "parity.json").read_text())
    assert card["verdict"] == "exact"
    assert {cell["original"].partition(",")[2] for cell in card["activations"]} == {f" {PLAIN}"}
