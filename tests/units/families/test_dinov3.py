"""DINOv3: its rotary positions, the mask of its biases, what is kept beside it, and what is refused."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import conversion
from conversion.artifact.load import load_converted, load_image_processor, load_model
from conversion.artifact.stage import save_artifact
from conversion.errors import CheckpointError, VariantError
from conversion.families.base import load_family
from conversion.families.dinov3.rotary import compute_periods, find_rounding, find_theta
from conversion.families.variants import VARIANTS
from conversion.intake.checkpoint import read_checkpoint
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.metrics import is_bit_equal
from conversion.parity.original_run import OriginalRun
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict
from conversion.state_dicts.folder import LEFT_OUT
from conversion.suite.inputs import open_photo
from tests.support.examples import ROOT
from tests.support.golden import DINOV3, PHOTOS, read_golden
from tests.support.runs import verify_input

FAMILY = load_family("dinov3")
GOLDEN = read_golden("dinov3_tiny")
PERIODS = "rope_embed.periods"
MASK = "blocks.0.attn.qkv.bias_mask"
NATIVE = next(case for case in GOLDEN.cases if case.name == "80x80")


def convert(state_dict: Mapping[str, Tensor], **settings: object) -> conversion.Conversion:
    return conversion.convert(state_dict, **{**GOLDEN.overrides, **settings})


def verify(state_dict: Mapping[str, Tensor], attention: str = "sdpa", dtype: str = "float32") -> InputVerdict:
    out = convert(state_dict)
    shape = tuple(NATIVE.inputs.pixel_values.shape)
    original = FAMILY.load_original(out.spec, out.source)
    run = OriginalRun(original, FAMILY.list_stages(out.spec), NATIVE.inputs, getattr(torch, dtype))
    deviation = FAMILY.find_deviation(out.spec, shape, dtype, attention)
    return verify_input("native", run, load_converted(out, attention=attention, dtype=dtype), deviation)


@pytest.mark.parametrize("theta", [100.0, 10.0, 10000.0, 37.5])
@pytest.mark.parametrize("count", [2, 16, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_base_is_read_from_periods_rounded_or_not(theta: float, count: int, dtype: torch.dtype) -> None:
    periods = compute_periods(theta, count, dtype)
    found = find_theta(periods)
    assert found is not None
    rounding = find_rounding(periods, found)
    assert rounding is not None
    assert torch.equal(compute_periods(found, count, rounding), periods)
    if count > 2:  # of two rounded periods, several bases have the same
        assert found == theta


def test_the_last_places_of_a_power_are_the_processor_s() -> None:
    periods = compute_periods(100.0, 16)
    other = periods * (1 + 2 * torch.finfo(torch.float32).eps)
    assert not torch.equal(periods, other)
    assert find_theta(other) == 100
    assert find_theta(periods * (1 + 20 * torch.finfo(torch.float32).eps)) is None


def test_periods_of_no_base_have_none() -> None:
    periods = compute_periods(100.0, 16)
    assert find_theta(periods.flip(0)) is None
    assert find_theta(periods + 0.01) is None
    assert find_theta(torch.full((4,), torch.nan)) is None
    assert find_theta(torch.ones(1)) == 100
    assert find_theta(torch.zeros(1)) is None


@pytest.mark.parametrize("name", DINOV3)
def test_what_transformers_computes_of_the_periods_is_off_and_nothing_else(name: str) -> None:
    """The ledger's rope-periods-rounded: strict, it fails once transformers takes the file's."""
    golden = read_golden(name)
    result = verify(golden.recorded)
    assert result.deviation == "rope-periods-rounded"
    assert result.verdict is Verdict.EXACT
    assert next(iter(result.otherwise)) == "block.0.attention"
    assert result.otherwise["returned.last_hidden_state"].max_abs > 1e-3, "gone: take it out of the ledger"


def test_periods_that_are_not_rounded_leave_float32_s_rounding() -> None:
    state_dict = {**GOLDEN.recorded, PERIODS: compute_periods(100.0, 8)}
    result = verify(state_dict)
    assert result.verdict is Verdict.EXACT
    assert 0 < result.otherwise["returned.last_hidden_state"].max_abs < 1e-5


@pytest.mark.parametrize("name", DINOV3)
def test_the_line_of_the_page_makes_it_the_model_that_was_trained(name: str, tmp_path: Path) -> None:
    """In float64, against the recorded outputs of the original as it is."""
    golden = read_golden(name)
    save_artifact(conversion.convert(golden.state_dict, **golden.overrides), tmp_path / "model")
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^## Setting the periods of DINOv3\n.*?^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    held: dict[str, object] = {"folder": str(tmp_path / "model"), "DINOv3ViTModel": _Loader}
    exec(code.replace("from_pretrained(folder)", "load(folder)"), held)
    model = held["model"]
    assert isinstance(model, torch.nn.Module)
    for case in golden.cases:
        with torch.inference_mode():
            found = model(**case.inputs.to("cpu", torch.float64).arguments).last_hidden_state
        first = 1 + golden.spec.num_storage_tokens  # type: ignore[attr-defined]
        assert (found[:, 0] - case.outputs["x_norm_clstoken"]).abs().max() <= 1e-12
        assert (found[:, first:] - case.outputs["x_norm_patchtokens"]).abs().max() <= 1e-12


class _Loader:
    """Loads an artifact that is not verified yet, in float64."""

    @staticmethod
    def load(folder: str) -> torch.nn.Module:
        model: torch.nn.Module = load_model(Path(folder))
        return model.double().requires_grad_(requires_grad=False)


def test_the_image_processor_rescales_first() -> None:
    """The ledger's rescale-before-resize: strict."""
    transform = FAMILY.images.build_transform(GOLDEN.spec, 224)
    as_processor = FAMILY.images.build_transform(GOLDEN.spec, 224, as_processor=True)
    photo = open_photo()
    off = (transform(photo) - as_processor(photo)) * torch.tensor(PHOTOS["image_std"])[:, None, None] * 255
    assert 0.5 < float(off.abs().max()) <= 1
    assert float((off.abs() > 1e-3).float().mean()) > 0.9
    square = photo.resize((224, 224))
    assert FAMILY.find_image_deviation(GOLDEN.spec, photo.size, 224) is not None
    assert FAMILY.find_image_deviation(GOLDEN.spec, square.size, 224) is None
    assert (transform(square) - as_processor(square)).abs().max() < 1e-6


def test_the_image_processor_is_asked_for_no_backend_that_it_has_not(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    save_artifact(convert(GOLDEN.recorded), tmp_path / "model")
    processed = load_image_processor(tmp_path / "model")(open_photo(), return_tensors="pt")["pixel_values"][0]
    as_processor = FAMILY.images.build_transform(GOLDEN.spec, 224, as_processor=True)
    assert is_bit_equal(as_processor(open_photo()), processed)
    assert "backend" not in caplog.text
    assert [str(each.message) for each in recwarn if "backend" in str(each.message)] == []


def test_what_has_no_place_is_kept_beside_and_comes_back(tmp_path: Path) -> None:
    spec = replace(GOLDEN.spec, local_cls_norm=True)  # type: ignore[call-arg]
    state_dict = draw_state_dict(FAMILY, spec, "trained", 0)
    assert bool(state_dict["blocks.0.attn.qkv.bias"].chunk(3)[1].any())
    save_artifact(convert(state_dict), tmp_path / "model")
    kept = load_file(tmp_path / "model" / LEFT_OUT)
    assert {PERIODS, MASK, "local_cls_norm.weight", "local_cls_norm.bias", "blocks.2.attn.qkv.bias"} <= kept.keys()
    restored = read_checkpoint(tmp_path / "model").state_dict
    assert restored.keys() == state_dict.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in state_dict.items())


def test_without_what_was_kept_the_original_computes_the_same_and_that_is_said(tmp_path: Path) -> None:
    save_artifact(convert(GOLDEN.recorded), tmp_path / "model")
    (tmp_path / "model" / LEFT_OUT).unlink()
    checkpoint = read_checkpoint(tmp_path / "model")
    assert re.search(r"not kept beside the model.*rope_embed\.periods.*blocks\.\*\.attn\.qkv\.bias", checkpoint.gone)
    restored = checkpoint.state_dict
    assert restored.keys() == GOLDEN.recorded.keys()
    assert is_bit_equal(restored[PERIODS], compute_periods(100.0, 8))
    assert not bool(restored["blocks.0.attn.qkv.bias"].chunk(3)[1].any())
    assert is_bit_equal(restored[MASK], GOLDEN.recorded[MASK])
    assert verify(restored).verdict is Verdict.EXACT


def test_a_bias_of_key_that_no_mask_takes_away_is_converted() -> None:
    state_dict = {key: tensor for key, tensor in GOLDEN.recorded.items() if not key.endswith("bias_mask")}
    out = convert(state_dict)
    assert out.config.key_bias is True
    assert is_bit_equal(
        out.state_dict["layer.0.attention.k_proj.bias"], state_dict["blocks.0.attn.qkv.bias"].chunk(3)[1]
    )
    assert verify(state_dict).verdict is Verdict.EXACT


def test_no_storage_tokens_are_an_empty_tensor_on_disk() -> None:
    state_dict = {key: tensor for key, tensor in GOLDEN.recorded.items() if key != "storage_tokens"}
    out = convert(state_dict)
    assert out.state_dict["embeddings.register_tokens"].shape == (1, 0, 64)
    assert conversion.restore(out.state_dict, out.config, out.left_out).keys() == state_dict.keys()
    assert verify(state_dict).verdict is Verdict.EXACT


def test_without_a_mask_token_patches_cannot_be_masked() -> None:
    spec = replace(GOLDEN.spec, mask_token=False)  # type: ignore[call-arg]
    model = FAMILY.load_original(spec, draw_state_dict(FAMILY, spec, "any", 0))
    with pytest.raises(ValueError, match="no mask token"):
        model(NATIVE.inputs.pixel_values, torch.ones(2, 25, dtype=torch.bool))


def change(key: str, values: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {**GOLDEN.recorded, key: values(GOLDEN.recorded[key])}


@pytest.mark.parametrize(
    ("state_dict", "says"),
    [
        (change(PERIODS, lambda periods: periods + 1), r"rope_embed\.periods: \[2\.0, .*no powers of one base"),
        (change(MASK, torch.ones_like), r"bias_mask: takes nothing away; take the masks out"),
        (change(MASK, torch.zeros_like), r"bias_mask: takes away something else"),
        (change(MASK, lambda mask: torch.full_like(mask, torch.nan)), r"bias_mask: takes away something else"),
        (change(PERIODS, lambda periods: periods[:7]), r"heads of a width of 28 do not make one of 64"),
        ({**GOLDEN.recorded, "cls_norm.weight": torch.ones(64)}, r"cls_norm\.weight \(64,\)\nThe training had untie"),
        ({key: GOLDEN.recorded[key] for key in GOLDEN.recorded if key != PERIODS}, r"rope_embed\.periods: missing"),
    ],
)
def test_what_transformers_cannot_compute_is_refused(state_dict: dict[str, Tensor], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        convert(state_dict)


def test_another_base_is_another_model_than_the_official_one() -> None:
    official = draw_state_dict(FAMILY, FAMILY.spec_of(VARIANTS["dinov3_vits16"]), "any", 0)
    other = official | {PERIODS: compute_periods(10.0, 16)}
    says = r"another dinov3 model \(rope_theta 10\.0, not 100\.0\); dinov3_vits16 was asked for\.\nName no variant to"
    with pytest.raises(VariantError, match=says):
        conversion.convert(other, "dinov3_vits16")
    out = convert(other)
    assert (out.variant, out.config.rope_theta) == ("dinov3_custom", 10)
    assert conversion.convert(official).variant == "dinov3_vits16"


def test_weights_of_the_other_release_are_named() -> None:
    with pytest.raises(VariantError, match="weights of a dinov3 model; dinov2_vits14 was asked for"):
        conversion.convert(GOLDEN.recorded, "dinov2_vits14")
    with pytest.raises(VariantError, match="weights of a dinov2 model; dinov3_vits16 was asked for"):
        conversion.convert(read_golden("dinov2_tiny").recorded, "dinov3_vits16")


def test_which_of_the_largest_two_it_is_has_to_be_said() -> None:
    name = "dinov3_vit7b16_sat493m"
    with torch.device("meta"):
        state_dict = FAMILY.original_tensors(FAMILY.spec_of(VARIANTS[name]))
    with pytest.raises(CheckpointError, match=r"image_mean: give --image-mean"):
        conversion.convert(state_dict)
    out = conversion.convert(state_dict, name)
    assert out.preprocessor["image_mean"] == [0.43, 0.411, 0.296]
    assert out.config.query_bias is out.config.key_bias is False
    assert conversion.convert(state_dict, "dinov3_vit7b16").preprocessor["image_mean"] == [0.485, 0.456, 0.406]


def test_bfloat16_is_close() -> None:
    """The original rotates in float32, transformers in bfloat16: rounding, by the yardstick."""
    assert verify(GOLDEN.recorded, dtype="bfloat16").verdict in (Verdict.CLOSE, Verdict.EXACT)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dinov3_vitl16", "ImageNet's mean and std"),
        ("dinov3_vitl16_sat493m", "image_mean 0.43,0.411,0.296 and image_std"),
    ],
)
def test_how_images_are_normalised_is_noted_where_an_official_model_tells_it(name: str, says: str) -> None:
    with torch.device("meta"):
        state_dict = FAMILY.original_tensors(FAMILY.spec_of(VARIANTS[name]))
    positions, images = conversion.convert(state_dict).notes
    assert "pos_embed_rope_normalize_coords 'separate'): no tensor shows it" in positions
    assert f"normalises with {says}" in images
    assert conversion.convert(state_dict, name).notes == ()
