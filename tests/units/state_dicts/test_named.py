"""A variant that is named: whose word its settings are then, and, whole, what is said where it is another model."""

from typing import Any

import pytest
import torch

from conversion.errors import VariantError
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


def test_a_setting_that_was_told_otherwise_is_refused_with_who_told_it() -> None:
    told = ToldStateDict(build("dinov2_vits14"), {"layer_norm_eps": Told(1e-5, "config.yaml")})
    assert refuse(told, num_attention_heads=12) == [
        "dinov2_vits14 has num_attention_heads 6, not 12 (the caller), layer_norm_eps 1e-06, not 1e-05 (config.yaml).",
        f"{NAME_NONE} Or leave out what tells it otherwise.",
    ]
    assert refuse(build("dinov2_vits14"), input_size=98)[0] == (
        "dinov2_vits14 has input_size as usual, not 98 (the caller)."
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
