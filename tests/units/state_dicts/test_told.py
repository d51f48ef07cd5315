"""What tensors cannot tell: each setting is told by somebody, and a wrong value is noticed or refused."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.load import load_converted, load_image_processor
from conversion.artifact.stage import save_artifact
from conversion.errors import CheckpointError, VariantError
from conversion.families.base import families, load_family, tell_settings
from conversion.families.settings import AUTHORS, LAST_BLOCK, TIMM, list_settings, option_of
from conversion.families.told import CALLER, Told, ToldStateDict, write_value
from conversion.families.variants import VARIANTS
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.state_dicts import recognise
from conversion.state_dicts.recognise import recognise_family
from conversion.suite.inputs import InputCase, open_photo
from tests.support.golden import read_golden
from tests.support.runs import run_original, verify_input

ROOT = Path(__file__).parents[3]
DINOV2, DATA2VEC = load_family("dinov2"), load_family("data2vec_vision")

# setting: recorded model, a wrong value, where it shows
WRONG: Mapping[str, tuple[str, object, str]] = {
    "family":                ("beit_tiny_pt",                "data2vec_vision",     "refused"),
    "num_attention_heads":   ("dinov2_tiny",                 4,                     "block.0.attention"),
    "layer_norm_eps":        ("dinov2_tiny",                 1e-3,                  "block.0.norm1"),
    "hidden_act":            ("dinov2_tiny",                 "quick_gelu",          "refused"),
    "global_pool":           ("dinov2_tiny",                 "avg",                 "refused"),
    "interpolate_offset":    ("dinov2_tiny",                 0.0,                   "baked"),
    "interpolate_antialias": ("dinov2_tiny_reg",             False,                 "baked"),
    "image_mean":            ("dinov2_tiny",                 (0.5, 0.5, 0.5),       "photo"),
    "image_std":             ("dinov2_tiny",                 (0.5, 0.5, 0.5),       "photo"),
    "crop_pct":              ("dinov2_tiny",                 0.95,                  "photo"),
    "interpolation":         ("dinov2_tiny",                 "bilinear",            "photo"),
    "input_size":            ("dinov2_tiny",                 210,                   "photo"),
    "out_indices":           ("data2vec_vision_tiny_ade20k", (1, 0, 2, 3),          "refused"),
    "max_depth":             ("depth_anything_v2_tiny_metric", 80,                  "returned.predicted_depth"),
    "apply_layernorm":       ("dinov2_tiny",                 "maybe",               "refused"),
    "reshape_hidden_states": ("dinov2_tiny",                 "maybe",               "refused"),
    "pool_scales":           ("data2vec_vision_tiny_ade20k", (1, 2, 3, 4),          "scale.3"),
}  # fmt: skip


def test_every_setting_has_a_wrong_value_here_and_a_row_in_the_docs() -> None:
    assert WRONG.keys() == list_settings().keys()
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in list_settings() if f"`{name}`" not in page] == []
    for family in families():  # one option serves all families that have the setting
        assert all(setting.is_option == list_settings()[name].is_option for name, setting in family.settings.items())
    promised = set(re.findall(r"`(--(?!image-size|checkpoint)[a-z-]+)`", page.partition("## Resampling")[0]))
    assert promised == {option_of(name) for name, setting in list_settings().items() if setting.is_option}
    options = [option_of(name) for name, setting in list_settings().items() if setting.is_option]
    assert [option for option in options if f"`{option}`" not in page] == []


def convert_wrong(name: str) -> tuple[conversion.Conversion, Any]:
    """A recorded model converted with a wrong value, and the original as it is."""
    golden = read_golden(WRONG[name][0])
    right = tell_settings(golden.family, golden.spec) | golden.overrides
    image_size = 42 if WRONG[name][2] == "baked" else None
    out = conversion.convert(golden.state_dict, image_size=image_size, **{**right, name: WRONG[name][1]})
    return out, golden.family.load_original(golden.spec, golden.state_dict)


@pytest.mark.parametrize("name", [name for name, (_, _, where) in WRONG.items() if where == "refused"])
def test_a_value_that_is_not_supported_is_refused(name: str) -> None:
    with pytest.raises((CheckpointError, VariantError), match=name):
        convert_wrong(name)


@pytest.mark.parametrize("name", [name for name, (*_, where) in WRONG.items() if where not in ("refused", "photo")])
def test_a_wrong_value_is_noticed_by_the_comparison(name: str) -> None:
    golden, where = read_golden(WRONG[name][0]), WRONG[name][2]
    out, original = convert_wrong(name)
    size = out.spec.image_size
    run = run_original(golden.family, golden.spec, original, InputCase("any", size, size))
    attention = golden.family.choose_attention()
    result = verify_input("any", run, load_converted(out, attention=attention))
    assert result.verdict is Verdict.FAILED
    first = next(point.point for point in result.points if point.verdict is Verdict.FAILED)
    assert first.startswith("embeddings" if where == "baked" else where)


@pytest.mark.parametrize("name", [name for name, (*_, where) in WRONG.items() if where == "photo"])
def test_a_wrong_value_is_noticed_on_the_photo(name: str, tmp_path: Path) -> None:
    golden = read_golden(WRONG[name][0])
    out, _ = convert_wrong(name)
    save_artifact(out, tmp_path / "wrong")
    processed = load_image_processor(tmp_path / "wrong")(open_photo(), return_tensors="pt")["pixel_values"][0]
    side = golden.family.images.choose_input_size(golden.spec)
    expected = golden.family.images.build_transform(golden.spec, side, as_processor=True)(open_photo())
    assert processed.shape != expected.shape or not is_bit_equal(processed, expected)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("image_mean", "0.5,0.5,2", "'0.5,0.5,2': means of red, green and blue lie between 0 and 1"),
        ("image_std", "0.5,0.5,0", "'0' is not a number above 0"),
        ("layer_norm_eps", "inf", "'inf' is not a number above 0"),
        ("interpolate_offset", 1, "1 is not a number from 0 to below 1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, value: object, says: str) -> None:
    golden = read_golden("dinov2_tiny")
    with pytest.raises(VariantError, match="A dinov2 model cannot have these values") as raised:
        conversion.convert(golden.state_dict, **{**golden.overrides, name: value})
    assert raised.value.problems == (f"{name}: {says}",)


# who tells


def test_the_official_model_of_these_very_shapes_tells_and_nobody_else_of_the_same_width() -> None:
    row = VARIANTS["dinov2_vits14"]
    spec = DINOV2.spec_of(row)
    out = conversion.convert(DINOV2.original_tensors(spec))
    assert out.told["num_attention_heads"] == Told(6, "dinov2_vits14, the official model of these shapes", False)
    assert out.spec == spec
    with pytest.raises(
        CheckpointError, match="num_attention_heads: give --num-attention-heads as it was in training; most"
    ):
        conversion.convert(DINOV2.original_tensors(replace(spec, image_size=224)))


def test_an_official_model_does_not_tell_how_timms_code_resamples() -> None:
    tensors = DINOV2.original_tensors(DINOV2.spec_of(VARIANTS["dinov2_vits14_reg"]))
    assert conversion.convert(ToldStateDict(tensors)).spec.any_size
    out = conversion.convert(ToldStateDict(tensors, writer=TIMM))
    assert not out.spec.any_size
    assert out.config.num_attention_heads == 6


def test_what_the_authors_code_has_no_other_value_for_is_told_by_it_but_not_for_files_of_timms() -> None:
    golden = read_golden("dinov2_tiny")
    out = conversion.convert(golden.backbone, num_attention_heads=2)
    assert out.told["image_mean"].by == f"{AUTHORS}, which has no other"
    with pytest.raises(CheckpointError) as raised:
        conversion.convert(ToldStateDict(golden.backbone, writer=TIMM), num_attention_heads=2)
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "image_mean",
        "image_std",
        "crop_pct",
        "interpolation",
    ]


def test_a_file_is_believed_and_contradicting_it_is_refused() -> None:
    golden = read_golden("dinov2_tiny")
    told = ToldStateDict(golden.backbone, {"num_attention_heads": Told(2, "config.json")})
    assert conversion.convert(told).told["num_attention_heads"] == Told(2, "config.json")
    assert conversion.convert(told, num_attention_heads=2).told["num_attention_heads"].by == "config.json"
    with pytest.raises(VariantError, match=r"(?s)different values.*_heads: config\.json says 2, not 4.*move"):
        conversion.convert(told, num_attention_heads=4)
    with pytest.raises(VariantError, match=r"dinov2_vits14 has num_attention_heads 6, not 2 \(config\.json\)"):
        conversion.convert(
            ToldStateDict(DINOV2.original_tensors(DINOV2.spec_of(VARIANTS["dinov2_vits14"])), told.told),
            "dinov2_vits14",
        )


def test_another_normalisation_is_another_model_than_the_official_one() -> None:
    tensors = DINOV2.original_tensors(DINOV2.spec_of(VARIANTS["dinov2_vits14"]))
    plain = conversion.convert(tensors)
    assert plain.variant == "dinov2_vits14"
    assert [note for note in plain.notes if "--image-mean" in note]
    other = conversion.convert(tensors, image_mean="0.53,0.53,0.53", image_std=(0.25, 0.25, 0.25))
    assert other.variant == "dinov2_custom"
    assert other.notes == ()
    assert other.preprocessor["image_mean"] == [0.53, 0.53, 0.53]
    assert other.told["image_mean"] == Told((0.53, 0.53, 0.53), CALLER)


def test_what_the_official_model_of_these_shapes_has_otherwise_is_said() -> None:
    tensors = DINOV2.original_tensors(DINOV2.spec_of(VARIANTS["dinov2_vits14"]))
    out = conversion.convert(tensors, num_attention_heads=12)
    assert "dinov2_vits14, the official model of these shapes, has num_attention_heads 6, not 12" in out.notes


def test_models_that_beit_has_the_shapes_of_get_no_official_name() -> None:
    spec = DATA2VEC.spec_of(VARIANTS["data2vec_vision_base_ft1k"])
    given = tell_settings(DATA2VEC, spec, "image_mean", "image_std")
    out = conversion.convert(DATA2VEC.original_tensors(spec), **given)
    assert out.variant == "data2vec_vision_or_beit_or_beitv2"
    assert "no tensor tells which one this is" in out.notes[0]
    pretrained = DATA2VEC.original_tensors(DATA2VEC.spec_of(VARIANTS["data2vec_vision_base"]))
    assert conversion.convert(pretrained).variant == "data2vec_vision_base"
    words = {"lm_head.weight": torch.empty(8192, 768, device="meta"), "lm_head.bias": torch.empty(8192, device="meta")}
    with pytest.raises(CheckpointError, match="image_mean: give --image-mean"):
        conversion.convert(pretrained | words)


@pytest.mark.parametrize("value", [(0.1, 0.2, 0.3), 1 / 3, 0.875, True, "bicubic", (3, 5, 7, 11), (LAST_BLOCK,), 1e-6])
def test_a_value_is_written_as_its_option_takes_it(value: object) -> None:
    parsers = [setting.parse for setting in list_settings().values()]

    def accepts(parse: Any) -> bool:
        try:
            return bool(parse(write_value(value)) == value)
        except (ValueError, TypeError):
            return False

    assert any(map(accepts, parsers))


# resampling


def test_nothing_is_claimed_off_the_native_size_where_nobody_told_how_it_is_resampled() -> None:
    golden = read_golden("dinov2_tiny_reg")
    out = conversion.convert(golden.backbone, num_attention_heads=2)
    assert out.input_size == out.spec.image_size == 70
    assert not out.spec.any_size
    assert any("nothing is claimed at another size than 70 x 70" in note for note in out.notes)
    with pytest.raises(CheckpointError, match=r"nothing tells how it resamples.*\n.*--interpolate-offset"):
        conversion.convert(golden.backbone, num_attention_heads=2, image_size=42)


@pytest.mark.parametrize("size", [42, 56, 98, 224])
@pytest.mark.parametrize(("offset", "antialias"), [(0.1, False), (0.0, True), (0.1, True)])
@pytest.mark.parametrize("registers", [0, 4])
def test_a_model_that_was_trained_otherwise_than_the_official_ones_is_exact_once_that_is_told(
    registers: int, offset: float, antialias: bool, size: int
) -> None:
    """The reference is the bundled original with the training's own resampling, set by hand and not by the option."""
    spec = replace(read_golden("dinov2_tiny").spec, num_register_tokens=registers, interpolate_offset=None,
                   interpolate_antialias=None, image_size=98)  # fmt: skip
    state_dict = draw_state_dict(DINOV2, spec, "trained", 0)
    trained = DINOV2.load_original(spec, state_dict)
    trained.interpolate_offset, trained.interpolate_antialias = offset, antialias
    told = {"num_attention_heads": 2, "interpolate_offset": offset, "interpolate_antialias": antialias}
    case = InputCase("any", size, size, batch=2, masked=True)
    run = run_original(DINOV2, spec, trained, case)
    baked = conversion.convert(state_dict, image_size=size, **told)
    assert verify_input("baked", run, load_converted(baked)).verdict is Verdict.EXACT
    plain = conversion.convert(state_dict, **told)
    deviation = DINOV2.find_deviation(plain.spec, case.shape)
    result = verify_input("plain", run, load_converted(plain), deviation)
    agrees = size == 98 or (offset, antialias) == (0.0, bool(registers))
    assert (deviation is None) == agrees
    assert {point.verdict for point in result.points} == {Verdict.EXACT}
    # the official models' way, assumed, is another function
    if not agrees:
        assert verify_input("assumed", run, load_converted(plain)).verdict is Verdict.FAILED


def test_heads_that_nobody_tells_are_refused_with_the_likely_number() -> None:
    wide = replace(read_golden("dinov2_tiny").spec, embed_dim=128)
    state_dict = {key: torch.randn(shape) for key, shape in DINOV2.original_shapes(wide).items()}
    with pytest.raises(CheckpointError) as raised:
        conversion.convert(state_dict)
    said = "num_attention_heads: give --num-attention-heads as it was in training; most such models have 2"
    assert raised.value.problems == (said,)
    given = conversion.convert(state_dict, num_attention_heads=4)
    assert given.config.num_attention_heads == 4
    assert given.told["num_attention_heads"] == Told(4, CALLER)


def test_where_no_number_of_heads_is_likely_none_is_named() -> None:
    with pytest.raises(CheckpointError) as raised:
        conversion.convert(read_golden("dinov2_tiny").backbone)
    assert raised.value.problems == ("num_attention_heads: give --num-attention-heads as it was in training",)


def test_a_state_dict_is_recognised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def count(shapes: Any, told: str | None = None) -> Any:
        family = recognise_family(shapes, told)
        seen.append(family.name)
        return family

    monkeypatch.setattr(recognise, "recognise_family", count)
    golden = read_golden("dinov2_tiny_1layer")
    conversion.convert(golden.backbone, linear_head=golden.linear_head, **golden.overrides)
    assert seen == ["dinov2"]
