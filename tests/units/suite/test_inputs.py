"""The inputs that every variant is verified on, and which of them side by side."""

from dataclasses import replace

import pytest

from conversion.families.base import load_family
from conversion.families.variants import VARIANTS
from conversion.suite.inputs import SIDE_BY_SIDE, InputCase, group_inputs, list_inputs, select_few


@pytest.mark.parametrize("name", VARIANTS)
def test_inputs_are_verified_side_by_side_within_bounds(name: str) -> None:
    """Of most models all; of segmentation models, whose maps are large, each by itself."""
    family = load_family(VARIANTS[name].family)
    spec = family.spec_of(VARIANTS[name])
    cases = list_inputs(spec, family.images.choose_input_size(spec), None)
    groups = group_inputs(cases)
    assert [case for group in groups for case in group] == cases
    assert all(sum(case.pixels for case in group) <= SIDE_BY_SIDE for group in groups if len(group) > 1)
    is_small = sum(case.pixels for case in cases) <= SIDE_BY_SIDE
    assert len(groups) == 1 if is_small else len(groups) > 1
    assert is_small == (spec.image_size < 384 or (spec.any_size and not spec.keeps_aspect))
    assert len(groups) == len(cases) or not name.endswith("ade20k")


def test_an_input_beyond_the_bounds_is_verified_by_itself() -> None:
    small, large = InputCase("small", 28, 28), InputCase("large", 1024, 1024)
    assert group_inputs([small, small, large, small]) == [[small, small], [large], [small]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dinov2_vits14", ["batch_2", "masked", "non_square"]),
        ("dinov2_vitb14_reg_1layer", ["batch_2", "masked", "non_square"]),
        ("data2vec_vision_base", ["batch_2"]),
        ("data2vec_vision_large_ade20k", ["batch_2"]),
        ("depth_anything_v2_vits", ["batch_2", "non_square"]),
    ],
)
def test_few_patches_are_those_of_small_images_or_of_two_images(name: str, expected: list[str]) -> None:
    family = load_family(VARIANTS[name].family)
    spec = family.spec_of(VARIANTS[name])
    cases = list_inputs(spec, family.images.choose_input_size(spec), None)
    assert [case.name for case in select_few(cases, spec.patch_size)] == expected
    assert len(cases) > len(expected)


def test_of_small_images_a_photo_and_what_is_baked_are_left_out() -> None:
    variant = VARIANTS["dinov2_vitl14_nyu_dpt"]
    spec = replace(load_family(variant.family).spec_of(variant), image_size=56)
    cases = list_inputs(spec, 56, None)
    assert {case.name for case in cases} == {"native", "batch_2", "non_square", "photo", "photo_size", "98_baked"}
    assert [case.name for case in select_few(cases, spec.patch_size)] == ["native", "batch_2", "non_square"]
