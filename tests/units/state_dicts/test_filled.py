"""What is filled in where an original lacks what transformers' model always has, and that it goes out again."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from conversion.errors import KeyMapError
from conversion.families.base import Family, Spec, load_family
from conversion.mapping.key_map import KeyMap, add_prefix
from conversion.state_dicts.convert import convert
from conversion.state_dicts.filled import choose_value, describe_filled, fill_in, list_layout, take_out_filled
from tests.support.golden import read_golden
from tests.support.small_dinov2 import SMALL, TOLD
from tests.support.switched import CLASSIFIER, draw

DINOV2, DATA2VEC_VISION = load_family("dinov2"), load_family("data2vec_vision")
ALWAYS = "not in the checkpoint, and always in transformers' model: "
LINES = {
    "zeros for several": ({"proj_bias": False}, [f"{ALWAYS}blocks.*.attn.proj.bias. Zeros stand for them"]),
    "zeros for one": ({"mask_token": False, "num_register_tokens": 4}, [f"{ALWAYS}mask_token. Zeros stand for it"]),
    "of two names": (
        {"ffn_bias": False},
        [f"{ALWAYS}blocks.*.mlp.fc1.bias, blocks.*.mlp.fc2.bias. Zeros stand for them"],
    ),
    "ones": ({"layer_scale": False}, [f"{ALWAYS}blocks.*.ls1.gamma, blocks.*.ls2.gamma. Ones stand for them"]),
    "both": (
        {"proj_bias": False, "layer_scale": False},
        [
            f"{ALWAYS}blocks.*.attn.proj.bias. Zeros stand for them",
            f"{ALWAYS}blocks.*.ls1.gamma, blocks.*.ls2.gamma. Ones stand for them",
        ],
    ),
    "nothing": ({}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_it_is_said_in_a_line_for_zeros_and_one_for_ones(case: str) -> None:
    switches, lines = LINES[case]
    ending = ", which change no output; restoring leaves them out"
    assert list(describe_filled(DINOV2, replace(SMALL, **switches))) == [line + ending for line in lines]


def test_a_factor_is_one_and_all_else_zero() -> None:
    assert choose_value(DINOV2, "blocks.0.ls1.gamma") == 1
    assert choose_value(DINOV2, "blocks.0.mlp.fc1.bias") == 0


SEGMENTATION = replace(read_golden("data2vec_vision_tiny_ade20k").spec, layer_scale=False)
LACKING: dict[str, tuple[Family[Any], Spec]] = {
    "dinov2": (DINOV2, replace(SMALL, layer_scale=False, proj_bias=False)),
    "data2vec_vision": (DATA2VEC_VISION, replace(CLASSIFIER, layer_scale=False)),
    "segmentation": (DATA2VEC_VISION, SEGMENTATION),
}


@pytest.mark.parametrize("major", [4, 5])
@pytest.mark.parametrize("name", LACKING)
def test_the_layout_is_that_of_its_major_version(name: str, major: int) -> None:
    family, spec = LACKING[name]
    whole = family.complete(spec)
    own = {key for names in family.expand_key_map(spec, major).values() for key in names}
    filled = fill_in(family, spec, draw(spec), major)
    assert list_layout(family, spec, major) == own | filled.keys()
    assert list_layout(family, spec, major) == list_layout(family, whole, major)
    assert not own & filled.keys()
    taken = take_out_filled(family, spec, {**dict.fromkeys(own, torch.zeros(1)), **filled}, major)
    assert taken.keys() == own


@pytest.mark.parametrize("major", [4, 5])
def test_what_is_filled_in_has_the_names_of_its_major_version(major: int) -> None:
    """Today's families fill in nothing that two major versions name differently; this one names all so."""
    spec = replace(SMALL, layer_scale=False, proj_bias=False)

    def select(spec: Any, major: int) -> KeyMap:
        rows = DINOV2.select_key_map(spec, major)
        return {source: add_prefix(f"v{major}.", target) for source, target in rows.items()}

    family = replace(DINOV2, select_key_map=select)
    layout, filled = list_layout(family, spec, major), fill_in(family, spec, draw(spec), major)
    assert {name.partition(".")[0] for name in layout | filled.keys()} == {f"v{major}"}
    assert len(filled) == 3 * spec.depth
    taken = take_out_filled(family, spec, {**dict.fromkeys(layout, torch.zeros(1)), **filled}, major)
    assert taken.keys() == layout - filled.keys()


def test_of_what_other_layers_have_the_one_that_lacks_it_is_named() -> None:
    golden = read_golden("dinov2_tiny_dd")
    unit = "decode_head.fusion_blocks.0.res_conv_unit1"
    assert list(describe_filled(golden.family, golden.spec)) == [
        f"{ALWAYS}{unit}.conv1.conv.weight, {unit}.conv2.conv.weight. Zeros stand for them, which change no output; "
        "restoring leaves them out"
    ]


def test_the_layouts_of_two_major_versions_are_two() -> None:
    family, spec = LACKING["segmentation"]
    assert list_layout(family, spec, 4) != list_layout(family, spec, 5)


@pytest.mark.parametrize(
    ("dtypes", "widest"),
    [
        ((torch.float16, torch.float16), torch.float16),
        ((torch.float16, torch.bfloat16), torch.float32),
        ((torch.float32, torch.float64), torch.float64),
    ],
)
def test_it_is_of_the_widest_dtype_and_where_the_others_are(
    dtypes: tuple[torch.dtype, torch.dtype], widest: torch.dtype
) -> None:
    spec = replace(SMALL, layer_scale=False)
    like = {"a": torch.zeros(1, dtype=dtypes[0]), "b": torch.zeros(1, dtype=dtypes[1]), "c": torch.zeros(1).int()}
    filled = fill_in(DINOV2, spec, like)
    assert {tensor.dtype for tensor in filled.values()} == {widest}
    assert {tensor.device.type for tensor in filled.values()} == {"cpu"}
    assert all(bool((tensor == 1).all()) for tensor in filled.values())
    on_meta = fill_in(DINOV2, spec, {key: tensor.to("meta") for key, tensor in like.items()})
    assert {tensor.device.type for tensor in on_meta.values()} == {"meta"}
    assert fill_in(DINOV2, SMALL, {}) == {}


def convert_lacking() -> dict[str, torch.Tensor]:
    return dict(convert(draw(replace(SMALL, layer_scale=False, proj_bias=False)), **TOLD).state_dict)


def test_what_was_trained_since_does_not_go_out() -> None:
    spec = replace(SMALL, layer_scale=False, proj_bias=False)
    tensors = convert_lacking()
    changed = sorted(key for key in tensors if "layer.1." in key and ("lambda" in key or "output.dense.bias" in key))
    assert len(changed) == 3
    for key in changed:
        tensors[key] = tensors[key].clone()
        tensors[key][-1] += 1
    said = [f"{key}: not all {0 if 'bias' in key else 1}" for key in changed]
    with pytest.raises(KeyMapError) as error:
        take_out_filled(DINOV2, spec, tensors, None)
    assert error.value.headline == (
        "Tensors that the conversion filled in have changed since; the original has none of these."
    )
    assert error.value.problems == tuple(said)
    assert error.value.hint == (
        "To have them in the restored model, take 'original_lacks' out of config.json."
    )  # fmt: skip


def test_tensors_without_values_go_out() -> None:
    spec = replace(SMALL, layer_scale=False, proj_bias=False)
    tensors = {key: tensor.to("meta") for key, tensor in convert_lacking().items()}
    taken = take_out_filled(DINOV2, spec, tensors, None)
    assert len(tensors) - len(taken) == 3 * spec.depth
    assert not [key for key in taken if re.search(r"lambda|attention\.output\.dense\.bias", key)]
