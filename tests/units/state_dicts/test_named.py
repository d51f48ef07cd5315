"""A variant that is named: whose word its settings are then, and, whole, what is said where it is another model."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import KeyMapError, VariantError
from conversion.families.base import load_family
from conversion.families.told import Told, ToldStateDict
from conversion.families.variants import VARIANTS
from conversion.state_dicts.named import recognise_named
from tests.support.golden import read_golden

VITS14 = VARIANTS["dinov2_vits14"]
NAME_NONE = "Name no variant to convert it as what it is."


def build(name: str) -> dict[str, torch.Tensor]:
    """A variant's tensors, on the meta device."""
    row = VARIANTS[name]
    family = load_family(row.family)
    return dict(family.original_tensors(family.spec_of(row)))


def refuse(state_dict: Any, asked: str = "dinov2_vits14", **settings: Any) -> list[str]:
    """The lines of what is said."""
    with pytest.raises(VariantError) as raised:
        recognise_named(VARIANTS[asked], state_dict, settings)
    return str(raised.value).splitlines()


def test_all_settings_are_told_by_the_name() -> None:
    found = recognise_named(VITS14, build("dinov2_vits14"), {})
    assert found.spec == found.family.spec_of(VITS14)
    assert found.lookalikes == ()
    by = "dinov2_vits14, which was named"
    assert {name: told.value for name, told in found.told.items()} == {
        "num_attention_heads": 6,
        "layer_norm_eps": 1e-6,
        "global_pool": "token",
        "interpolate_offset": 0.1,
        "interpolate_antialias": False,
        "image_mean": (0.485, 0.456, 0.406),
        "image_std": (0.229, 0.224, 0.225),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
    }
    assert {(told.by, told.is_given) for told in found.told.values()} == {(by, False)}


def test_what_a_backbone_returns_is_told_beside_the_name() -> None:
    found = recognise_named(VITS14, build("dinov2_vits14"), {"out_indices": (2, 11)})
    assert found.spec == replace(found.family.spec_of(VITS14), out_indices=(2, 11))
    assert (found.told["out_indices"].by, found.told["num_attention_heads"].by) == (
        "the caller",
        "dinov2_vits14, which was named",
    )


def test_a_setting_that_was_told_otherwise_is_refused_with_who_told_it() -> None:
    told = ToldStateDict(build("dinov2_vits14"), {"layer_norm_eps": Told(1e-5, "config.yaml")})
    assert refuse(told, num_attention_heads=12) == [
        "dinov2_vits14 has num_attention_heads 6, not 12 (the caller), layer_norm_eps 1e-06, not 1e-05 (config.yaml).",
        f"{NAME_NONE} Or leave out what tells it otherwise.",
    ]
    assert refuse(build("dinov2_vits14"), input_size=98)[0] == (
        "dinov2_vits14 has input_size as usual, not 98 (the caller)."
    )
    assert refuse(build("data2vec_vision_base"), "data2vec_vision_base", family="beit")[0] == (
        "data2vec_vision_base has family data2vec_vision, not beit (the caller)."
    )


@pytest.mark.parametrize(
    ("given", "asked", "said"),
    [
        ("dinov2_vitb14", "dinov2_vits14", ["These are the weights of dinov2_vitb14; dinov2_vits14 was asked for."]),
        (
            "data2vec_vision_base",
            "dinov2_vitb14",
            ["These are the weights of data2vec_vision_base; dinov2_vitb14 was asked for."],
        ),
    ],
)
def test_another_official_model_is_named(given: str, asked: str, said: list[str]) -> None:
    assert refuse(build(given), asked) == [*said, NAME_NONE]


def test_a_backbone_that_was_asked_for_as_a_classifier_needs_its_head() -> None:
    assert refuse(build("dinov2_vits14"), "dinov2_vits14_1layer") == [
        "These are the weights of dinov2_vits14; dinov2_vits14_1layer was asked for.",
        "dinov2_vits14_1layer needs its linear head file beside the backbone: give linear_head (--linear-head).",
    ]


def test_of_a_model_of_ones_own_all_is_named_that_its_tensors_show() -> None:
    """Not what nobody told, as its number of heads."""
    assert refuse(read_golden("dinov2_tiny").backbone)[0] == (
        "These are the weights of another dinov2 model (embed_dim 32, not 384, depth 3, not 12, "
        "image_size 70, not 518); dinov2_vits14 was asked for."
    )
    assert refuse(read_golden("data2vec_vision_tiny").state_dict) == [
        "These are the weights of a data2vec_vision model; dinov2_vits14 was asked for.",
        NAME_NONE,
    ]


def without(name: str, *keys: str) -> dict[str, Tensor]:
    """A variant's tensors, without some of its keys."""
    return {key: tensor for key, tensor in build(name).items() if key not in keys}


@pytest.mark.parametrize(
    ("given", "lacks", "asked", "described"),
    [
        ("dinov2_vitb14", "pos_embed", "data2vec_vision_base", "a dinov2 model"),
        ("data2vec_vision_base", "patch_embed.proj.weight", "dinov2_vitb14", "a data2vec_vision model"),
        ("data2vec_vision_base", "blocks.3.norm1.weight", "dinov2_vitb14", "data2vec_vision_base"),
    ],
)
def test_damaged_weights_of_another_family_are_named_as_far_as_they_are_known(
    given: str, lacks: str, asked: str, described: str
) -> None:
    with pytest.raises(VariantError, match=f"weights of {described}; {asked} was asked for") as raised:
        conversion.convert(without(given, lacks), asked)
    assert raised.value.hint == "Name no variant to convert it as what it is."


def test_of_no_known_family_everything_is_missing_from_what_was_named() -> None:
    whole = without("dinov2_vits14")
    with pytest.raises(KeyMapError, match=r"^dinov2_vits14: 176 problem") as raised:
        conversion.convert({"layer1.0.conv1.weight": torch.zeros(1)}, "dinov2_vits14")
    missing = [f"missing: {key} {tuple(tensor.shape)}" for key, tensor in whole.items()]
    assert sorted(raised.value.problems) == sorted([*missing, "unexpected: layer1.0.conv1.weight (1,)"])


def test_what_another_model_left_out_is_not_put_back() -> None:
    golden = read_golden("data2vec_vision_tiny")
    out = conversion.convert(golden.state_dict, **golden.overrides)
    dropped = {**out.left_out, "lm_head.bias": torch.zeros(8192)}
    with pytest.raises(
        KeyMapError, match=r"another model\.\n  - lm_head\.bias: \(8192,\), expected \(32,\)\nGive the orig"
    ):
        conversion.restore(out.state_dict, out.config, dropped=dropped)
