"""Settings that tensors do not tell: which are taken on whose word, and which are refused."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import CheckpointError, ConversionError, VariantError
from conversion.families.base import load_family
from conversion.families.settings import AUTHORS
from conversion.families.told import CALLER, Told, ToldStateDict
from conversion.families.variants import VARIANTS
from conversion.state_dicts.linear_head import fit_linear_head
from conversion.state_dicts.other_kinds import list_converted
from conversion.state_dicts.recognise import identify_variant, merge_told, recognise, recognise_shapes, select_settings
from tests.support.golden import convert, read_golden
from tests.support.small_dinov2 import SMALL, TOLD
from tests.support.switched import draw

GOLDEN = read_golden("dinov2_tiny")


def refuse(told: dict[str, Told], **given: object) -> tuple[str, tuple[str, ...], str]:
    with pytest.raises(CheckpointError) as error:
        conversion.convert(ToldStateDict(GOLDEN.state_dict, told), **{**GOLDEN.overrides, **given})
    return error.value.headline, error.value.problems, error.value.hint


def test_what_a_file_says_and_is_not_supported_has_no_way_out_here() -> None:
    assert refuse({"hidden_act": Told("silu", "config.json")}) == (
        "These settings are not supported.",
        ("hidden_act: config.json says 'silu'; only 'gelu' is supported",),
        "Use this model in the library that wrote it.",
    )


def test_what_the_caller_says_and_is_not_supported_can_be_left_out() -> None:
    headline, problems, hint = refuse({}, hidden_act="silu")
    assert headline == "These settings are not supported."
    assert problems == (f"hidden_act: {CALLER} says 'silu'; only 'gelu' is supported",)
    assert hint == "Leave --hidden-act out, or use this model in the library that wrote it."


def test_all_that_can_be_left_out_is_named() -> None:
    golden = read_golden("data2vec_vision_tiny")
    with pytest.raises(CheckpointError) as error:
        conversion.convert(golden.state_dict, **golden.overrides, hidden_act="relu", global_pool="avg")
    assert error.value.hint.startswith("Leave --hidden-act, --global-pool out, or use")


def test_it_is_said_who_told_each_and_whether_of_this_very_model() -> None:
    told = convert("dinov2_tiny").told
    assert told["num_attention_heads"] == Told(2, CALLER, is_given=True)
    assert told["hidden_act"] == Told("gelu", f"{AUTHORS}, which has no other", is_given=False)


def test_of_an_official_models_shapes_its_settings_are_taken() -> None:
    official = conversion.convert(_meta("dinov2_vits14"))
    assert official.told["num_attention_heads"] == Told(
        6, "dinov2_vits14, the official model of these shapes", is_given=False
    )  # fmt: skip


def test_a_setting_that_an_official_model_has_otherwise_is_noted() -> None:
    out = conversion.convert(_meta("dinov2_vits14"), num_attention_heads=12, layer_norm_eps=1e-5)
    assert (
        "dinov2_vits14, the official model of these shapes, has num_attention_heads 6, not 12, layer_norm_eps 1e-06, "
        "not 1e-05" in out.notes
    )


def test_models_of_the_same_shapes_are_named_together() -> None:
    out = convert("data2vec_vision_tiny_ade20k")
    assert out.variant == "data2vec_vision_or_beit_or_beitv2"
    assert out.notes[0] == (
        "the shapes of data2vec_vision and beit and beitv2 models are the same: no tensor tells which one this is; "
        "its name says all of them"
    )  # fmt: skip


CONVERTED = "What is converted: models of dinov2, data2vec_vision, dinov3, beit, dinov2_depth and depth_anything."


def explain(state_dict: dict[str, Tensor], **options: object) -> tuple[str, tuple[str, ...], str]:
    """Headline, problems and way out of the refusal of a state dict."""
    with pytest.raises(ConversionError) as error:
        conversion.convert(state_dict, **options)
    return error.value.headline, error.value.problems, error.value.hint


def test_keys_of_no_family_are_listed_with_their_shapes() -> None:
    strange = {"one.weight": torch.zeros(2, 3), "two.bias": torch.zeros(4)}
    assert explain(strange) == (
        "2 keys that belong to no known family.",
        ("one.weight (2, 3)", "two.bias (4,)"),
        f"{CONVERTED} Give the original's own state dict.",
    )


def test_keys_of_several_families_are_of_none() -> None:
    both = {**GOLDEN.backbone, **read_golden("data2vec_vision_tiny").recorded}
    headline, problems, hint = explain(both)
    assert headline == f"{len(both)} keys that belong to several families (dinov2, data2vec_vision)."
    assert problems == tuple(f"{key} {tuple(tensor.shape)}" for key, tensor in both.items())
    assert hint == "Give the file of one model."


@pytest.mark.parametrize("prefix", ["", "dinov2."])
def test_what_transformers_wrote_is_restored_from_its_folder(prefix: str) -> None:
    keys = [f"{prefix}embeddings.cls_token", "layernorm.weight"]
    assert explain(dict.fromkeys(keys, torch.zeros(1))) == (
        "in the layout of transformers already.",
        tuple(keys),
        "Read its folder, with its config.json in it, by conversion.load_checkpoint: that restores the original.",
    )


@pytest.mark.parametrize("prefix", ["model.", "a.b."])
def test_a_prefix_of_all_keys_is_named(prefix: str) -> None:
    under = {prefix + key: tensor for key, tensor in GOLDEN.backbone.items()}
    assert explain(under) == (
        f"every key begins with {prefix!r}, which no known model's keys do.",
        tuple(under),
        f"No whole model of a known family lies under it. {CONVERTED}",
    )


def test_two_keys_have_a_prefix_in_common() -> None:
    assert explain({"a.b.weight": torch.zeros(1), "a.c.weight": torch.zeros(1)})[0].startswith(
        "every key begins with 'a.'"
    )


@pytest.mark.parametrize("state_dict", [{"a.b.weight": torch.zeros(1)}, {}])
def test_fewer_than_two_keys_have_nothing_in_common(state_dict: dict[str, Tensor]) -> None:
    assert explain(state_dict)[0] == f"{len(state_dict)} keys that belong to no known family."


def draw_grey() -> dict[str, Tensor]:
    """A model whose images have one channel, and which gets no image processor."""
    return draw(replace(SMALL, num_channels=1))


def test_settings_of_images_are_refused_where_there_is_no_image_processor() -> None:
    assert explain(draw_grey(), **TOLD, image_mean=(0.5, 0.5, 0.5), crop_pct=0.9, image_std=None) == (
        "image_mean, crop_pct: this dinov2 model gets no image processor, its images are not RGB.",
        (),
        "Leave these out; prepare its images as in training.",
    )


def test_what_a_file_tells_of_images_is_left_out_there() -> None:
    told = {"image_mean": Told((0.5, 0.5, 0.5), "config.json"), "layer_norm_eps": Told(1e-5, "config.json")}
    out = conversion.convert(ToldStateDict(draw_grey(), told), **TOLD)
    assert "image_mean" not in out.told
    assert out.told["layer_norm_eps"] == told["layer_norm_eps"]


def test_a_linear_head_is_refused_where_heads_are_part_of_the_model() -> None:
    head = {"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}
    golden = read_golden("data2vec_vision_tiny")
    assert explain(golden.state_dict, linear_head=head, **golden.overrides) == (
        "A data2vec_vision model has no linear head file of its own; one was given.", (), "Leave it out."
    )  # fmt: skip


def test_of_several_linear_heads_the_one_that_was_named_is_taken() -> None:
    golden = read_golden("dinov2_tiny_1layer")
    head = golden.linear_head
    names = [f"classifier_1_blocks_avgpool_True_lr_0_0000{number}" for number in (1, 2)]
    several = {
        f"classifiers_dict.{name}.linear.{key}": tensor + number
        for number, name in enumerate(names)
        for key, tensor in head.items()
    }
    for number, name in enumerate(names):
        found = fit_linear_head(golden.backbone, several, name)
        assert {key: float((found[key] - tensor).mean().round()) for key, tensor in head.items()} == {
            "weight": number, "bias": number
        }  # fmt: skip


def test_a_tensor_that_was_dropped_is_kept_beside_only_in_its_own_shape() -> None:
    golden = read_golden("data2vec_vision_tiny")
    assert convert("data2vec_vision_tiny").left_out.keys() == {"lm_head.weight", "lm_head.bias"}
    other = {**golden.state_dict, "lm_head.bias": torch.zeros(3)}
    assert conversion.convert(other, **golden.overrides).left_out.keys() == {"lm_head.weight"}
    diverged = {**golden.state_dict, "lm_head.bias": golden.state_dict["lm_head.bias"] * torch.nan}
    assert conversion.convert(diverged, **golden.overrides).left_out.keys() == {"lm_head.weight"}


def test_a_buffer_that_follows_from_nothing_is_refused_with_the_models_name() -> None:
    golden = read_golden("data2vec_vision_tiny")
    key = next(key for key in golden.state_dict if key.endswith("relative_position_index"))
    other = {**golden.state_dict, key: golden.state_dict[key] + 1}
    assert explain(other, **golden.overrides)[0] == "data2vec_vision_custom: 1 tensor(s) that cannot be left out."


def test_what_is_converted_is_said_of_all_families() -> None:
    assert list_converted() == CONVERTED


def _meta(name: str) -> ToldStateDict:
    family = load_family("dinov2")
    return ToldStateDict(family.original_tensors(family.spec_of(conversion.VARIANTS[name])))


def test_a_setting_of_another_family_is_refused_and_one_of_none_is_a_mistake_in_the_code() -> None:
    dinov2 = load_family("dinov2")
    others = {"pool_scales": (1, 2), "max_depth": 2, "num_attention_heads": 2}
    with pytest.raises(VariantError) as refused:
        select_settings(dinov2, others)
    assert refused.value.headline == "A dinov2 model has no max_depth, pool_scales."
    assert refused.value.hint == "Leave out --max-depth, --pool-scales."
    with pytest.raises(TypeError, match=r"^unexpected keyword arguments: one, pool_scales, two$"):
        select_settings(dinov2, {"two": 2, "one": 1, "pool_scales": (1,)})
    assert select_settings(dinov2, {"pool_scales": None, "one": None}) == {}


def test_values_that_a_setting_cannot_have_are_refused_all_of_them() -> None:
    with pytest.raises(VariantError) as refused:
        select_settings(load_family("dinov2"), {"num_attention_heads": 0, "crop_pct": "2", "layer_norm_eps": "1e-5"})
    assert refused.value.headline == "A dinov2 model cannot have these values."
    assert refused.value.problems == (
        "num_attention_heads: 0 is no whole number from 1 up",
        "crop_pct: '2' is no share of an image from 0.1 to 1",
    )
    assert refused.value.hint == "Correct them."
    parsed = select_settings(load_family("dinov2"), {"num_attention_heads": "4", "layer_norm_eps": "1e-5"})
    assert parsed == {"num_attention_heads": 4, "layer_norm_eps": 1e-5}


@pytest.mark.parametrize("name", ["beit", "data2vec_vision"])
def test_a_file_beside_the_weights_tells_which_family_they_are_of(name: str) -> None:
    shared = read_golden("data2vec_vision_tiny_ft1k").state_dict
    assert recognise_shapes(ToldStateDict(shared, {"family": Told(name, "config.json")}))[0].name == name
    assert recognise_shapes(shared, name)[0].name == name


def test_features_are_of_a_dinov2_alone() -> None:
    with pytest.raises(VariantError) as raised:
        select_settings(load_family("beit"), {"reshape_hidden_states": True})
    assert raised.value.headline == "beit: only a DINOv2 can be made a backbone."
    assert raised.value.hint == "Leave --as backbone out."


def test_a_state_dict_is_recognised_without_being_converted() -> None:
    shared = read_golden("data2vec_vision_tiny_ft1k")
    by_file = ToldStateDict(shared.state_dict, {"family": Told("data2vec_vision", "config.json")})
    found = recognise(by_file, **shared.overrides)
    out = conversion.convert(by_file, **shared.overrides)
    assert (found.family.name, found.spec, found.told) == ("data2vec_vision", out.spec, out.told)
    assert recognise(shared.state_dict, family="beit", **shared.overrides).family.name == "beit"


def test_another_family_than_that_of_the_keys_is_refused() -> None:
    assert explain(GOLDEN.state_dict, family="beit") == (
        "family was given as beit; these are the keys of a dinov2 model.",
        (),
        "Leave --family out, or correct the file that says so.",
    )


def test_all_kinds_that_a_model_may_be_are_named_where_its_settings_are_asked_for() -> None:
    headline, *_ = explain(read_golden("data2vec_vision_tiny_ade20k").state_dict)
    kinds = "data2vec_vision or beit or beitv2"
    assert headline == f"The tensors of this {kinds} model do not tell these settings, and no file does."


def test_what_a_file_tells_is_taken_in_its_parsed_form() -> None:
    by_file = {"image_mean": Told([0.5, 0.5, 0.5], "config.json"), "num_attention_heads": Told("2", "config.json")}
    assert merge_told(load_family("dinov2"), by_file, {}) == {
        "image_mean": Told((0.5, 0.5, 0.5), "config.json"), "num_attention_heads": Told(2, "config.json")
    }  # fmt: skip


def test_an_official_model_that_returns_features_is_the_same_official_model() -> None:
    family = load_family("dinov2")
    spec = replace(family.spec_of(VARIANTS["dinov2_vits14"]), out_indices=(3,))
    assert identify_variant(family, spec) == "dinov2_vits14"
    assert identify_variant(family, replace(spec, layer_norm_eps=1e-5)) == "dinov2_custom"
