"""Settings that tensors do not tell: which are taken on whose word, and which are refused."""

import pytest

import conversion
from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.families.settings import AUTHORS
from conversion.families.told import CALLER, Told, ToldStateDict
from conversion.state_dicts.other_kinds import list_converted
from tests.support.golden import convert, read_golden

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
    assert hint == "Leave --hidden-act out."


def test_all_that_can_be_left_out_is_named() -> None:
    golden = read_golden("data2vec_vision_tiny")
    with pytest.raises(CheckpointError) as error:
        conversion.convert(golden.state_dict, **golden.overrides, hidden_act="relu", global_pool="avg")
    assert error.value.hint == "Leave --hidden-act, --global-pool out."


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


def test_what_is_converted_is_said_of_all_families() -> None:
    assert list_converted() == "What is converted: models of dinov2 and data2vec_vision."


def _meta(name: str) -> ToldStateDict:
    family = load_family("dinov2")
    return ToldStateDict(family.original_tensors(family.spec_of(conversion.VARIANTS[name])))
