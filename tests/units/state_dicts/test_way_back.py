"""The way back: what comes back, what is gone, and which models have no way back."""

import copy
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import CheckpointError, ConversionWarning, KeyMapError
from conversion.families.base import load_family
from conversion.mapping import key_map
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.restore import (
    describe_gone,
    find_family,
    find_majors,
    restore_whole,
)
from tests.support.golden import convert

PRETRAINED = "data2vec_vision_tiny"
REASON = "predicts the targets of pretraining; transformers' model has no place for it"
GONE = f"not in the converted model, and gone: lm_head.weight, lm_head.bias ({REASON})"


@pytest.fixture(scope="module")
def pretrained() -> Conversion:
    return convert(PRETRAINED)


def test_what_is_gone_is_warned_of_with_its_reason(pretrained: Conversion) -> None:
    with pytest.warns(ConversionWarning) as said:
        restored = conversion.restore(dict(pretrained.state_dict), pretrained.config)
    assert [(str(each.message), each.filename) for each in said] == [(f"{GONE[0].upper()}{GONE[1:]}.", __file__)]
    assert not [key for key in restored if key.startswith("lm_head")]
    assert restore_whole(dict(pretrained.state_dict), pretrained.config)[1] == GONE


def test_what_was_left_out_comes_back_in_its_place(pretrained: Conversion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restored = conversion.restore(dict(pretrained.state_dict), pretrained.config, dict(pretrained.left_out))
    expected = {**pretrained.source, **pretrained.left_out}
    assert expected.keys() <= restored.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in expected.items())
    original = list(load_family("data2vec_vision").original_tensors(pretrained.spec))
    assert list(restored) == [key for key in original if key in restored]


def test_tensors_of_another_model_are_refused_before_what_follows_from_its_size_is_computed() -> None:
    """An index of all pairs of patches: of 2,250 patches a side it would be 200 TB."""
    out = convert("beit_tiny_ft")
    config = copy.deepcopy(out.config)
    config.image_size = 2250 * config.patch_size
    with pytest.raises(KeyMapError) as error:
        conversion.restore(dict(out.state_dict), config)
    assert error.value.headline == "The tensors are of another model than config.json describes."
    key = "blocks.0.attn.relative_position_bias_table"
    assert error.value.problems[0] == f"{key}: (84, 2), by config.json ({4499**2 + 3}, 2)"
    assert len(error.value.problems) == out.spec.depth


def test_what_was_left_out_of_another_model_is_refused(pretrained: Conversion) -> None:
    other = {"lm_head.weight": torch.zeros(3, 2), "lm_head.bias": torch.zeros(3)}
    shapes = {key: tuple(tensor.shape) for key, tensor in pretrained.left_out.items()}
    with pytest.raises(KeyMapError) as error:
        conversion.restore(dict(pretrained.state_dict), pretrained.config, other)
    assert error.value.headline == "What was left out is of another model."
    assert error.value.problems == tuple(f"{key}: {tuple(other[key].shape)}, expected {shapes[key]}" for key in other)
    assert error.value.hint == "Give the original of this very model."


def test_gone_keys_stand_together_by_reason() -> None:
    family = load_family("dinov2")
    original = ["norm.weight", "dino_head.mlp.0.weight", "stray", "dino_head.last.weight", "ibot_head.mlp.0.weight"]
    dino, ibot = family.dropped["dino_head.*"], family.dropped["ibot_head.*"]
    assert describe_gone(family, original, {"norm.weight"}) == (
        f"not in the converted model, and gone: dino_head.mlp.0.weight, dino_head.last.weight ({dino}); "
        f"stray (nothing says why); ibot_head.mlp.0.weight ({ibot})"
    )
    assert describe_gone(family, original, original) == ""


def restore_with(out: Conversion, state_dict: dict[str, Tensor] | None = None, **fields: Any) -> dict[str, Tensor]:
    config = type(out.config)(**{**out.config.to_dict(), **fields})
    return conversion.restore(dict(out.state_dict) if state_dict is None else state_dict, config)


@pytest.mark.parametrize("name", ["dinov2_tiny", "data2vec_vision_tiny_ft1k"])
def test_a_model_that_computes_another_activation_has_no_original(name: str) -> None:
    out = convert(name)
    assert restore_with(out, hidden_act="gelu_python").keys() == restore_with(out).keys()
    with pytest.raises(CheckpointError) as error:
        restore_with(out, hidden_act="relu")
    assert error.value.headline == "its config.json says hidden_act 'relu'; such an original has 'gelu'."
    assert error.value.hint == "There is no original that computes what this model does."


@pytest.mark.parametrize("name", ["dinov2_tiny_dd", "depth_anything_v2_tiny"])
def test_a_depth_model_is_refused_by_the_activation_of_its_backbone(name: str) -> None:
    out = convert(name)
    config = copy.deepcopy(out.config)
    config.backbone_config.hidden_act = "relu"
    with pytest.raises(CheckpointError, match=r"its config\.json says hidden_act 'relu'; such an original has 'gelu'"):
        conversion.restore(dict(out.state_dict), config)


def test_a_gated_model_does_not_read_the_activation() -> None:
    out = convert("dinov2_tiny_swiglu")
    assert restore_with(out, hidden_act="relu").keys() == out.source.keys()


def test_a_gated_model_that_reads_the_activation_is_refused_by_it() -> None:
    out = convert("dinov3_tiny_swiglu")
    with warnings.catch_warnings(action="ignore"):  # of what has no place in the converted model
        assert restore_with(out).keys() == out.source.keys()
        with pytest.raises(CheckpointError, match=r"hidden_act 'gelu'; such an original has 'silu'"):
            restore_with(out, hidden_act="gelu")


def test_a_config_of_no_known_family_is_refused() -> None:
    from transformers import ViTConfig

    with pytest.raises(CheckpointError) as error:
        find_family(ViTConfig())
    assert error.value.headline == "A model of type 'vit' is of no known family."
    assert (
        error.value.hint
        == "Known: dinov2, dinov2_with_registers, data2vec-vision, dinov3_vit, beit, dpt, depth_anything."
    )


def test_a_key_too_many_or_too_few_is_named() -> None:
    out = convert()
    tensors = dict(out.state_dict)
    tensors["more"] = tensors.pop("layernorm.weight")
    with pytest.raises(KeyMapError, match=r"(?s)unexpected: more.*missing: layernorm\.weight"):
        conversion.restore(tensors, out.config)


def test_a_spec_tells_which_tensors_follow_from_it() -> None:
    """Each in memory of its own: whoever changes one changes no other."""
    out = convert("data2vec_vision_tiny_ft1k")
    restored, _ = restore_whole(dict(out.state_dict), out.config)
    derived = load_family(out.family).derive(replace(out.spec))
    assert derived
    places = [restored[key].data_ptr() for key in derived]
    assert len(set(places)) == len(places)
    assert all(torch.equal(restored[key], tensor) for key, tensor in derived.items())


@pytest.mark.parametrize("major", [4, 5])
@pytest.mark.parametrize("name", ["data2vec_vision_tiny_ade20k", "dinov2_tiny"])
def test_the_layout_of_either_major_version_goes_back(name: str, major: int) -> None:
    out = convert(name)
    family = load_family(out.family)
    state_dict = key_map.convert(out.source, family.expand_key_map(out.spec, major))
    others = key_map.convert(out.source, family.expand_key_map(out.spec, 9 - major))
    majors = [4, 5] if state_dict.keys() == others.keys() else [major]
    assert find_majors(family, out.spec, state_dict) == majors
    assert find_majors(family, out.spec, iter(state_dict)) == majors
    restored, _ = restore_whole(state_dict, out.config)
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in out.source.items())


def test_keys_of_no_layout_are_of_no_major_version() -> None:
    out = convert()
    assert find_majors(load_family("dinov2"), out.spec, [*out.state_dict, "more"]) == []
