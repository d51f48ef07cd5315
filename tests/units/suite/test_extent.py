"""What is not named is verified on smaller images, and with a few blocks where it is large; what is named, whole."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from conversion.families.base import load_family, tell_settings
from conversion.families.variants import VARIANTS
from conversion.state_dicts.recognise import recognise
from conversion.suite.extent import FEATURES, FEW, choose_row, describe_extent, has_twin, is_as_deep, is_named
from conversion.suite.settings import Request
from tests.support.commands import run

DEPTH = {name for name, row in VARIANTS.items() if "max_depth" in row.spec}

WHOLE_BY_SIZE = {name for name in VARIANTS.keys() - DEPTH if "vits1" in name or "vitb16" in name} | {
    "data2vec_vision_base",
    "data2vec_vision_base_ft1k",
    "beit_base_patch16_224_pt22k",
    "beit_base_patch16_224_pt22k_ft22k",
    "beitv2_base_patch16_224_pt1k",
}

OF_SMALLER_IMAGES = {name for name in VARIANTS.keys() - DEPTH if name.startswith("dinov2_vitb14")}
"""Base models, all of whose blocks are verified, on images of 224 pixels in place of 518."""

TWINS = {
    *(name for name in VARIANTS if name.startswith("beit_") and name.endswith(("_ft1k", "_ft22kto1k"))),
    *(name for name in VARIANTS if name.startswith("beitv2_") and not name.endswith("_pt1k")),
    "dinov3_vit7b16_sat493m",
    *(name for name in DEPTH if name.startswith("depth_anything_v2_vit") or "vkitti" in name or "_kitti_" in name),
}
"""What is the same model as another, where both are shortened, but for its images, the number of its classes, or its
largest depth."""


def test_the_same_model_is_told_by_all_but_images_and_the_number_of_classes() -> None:
    assert {name for name, row in VARIANTS.items() if has_twin(row)} == TWINS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_mean": (0.1, 0.2, 0.3)}, True),
        ({"image_size": 384}, True),
        ({"num_classes": 21841}, True),
        ({"num_classes": 0}, False),
        ({"max_depth": 10}, False),
        ({"num_heads": 24}, False),
        ({"mean_pooling": False}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_another_model(changes: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    row = VARIANTS["data2vec_vision_base_ft1k"]
    other = replace(row, name="other", spec=MappingProxyType({**row.spec, **changes}))
    monkeypatch.setattr("conversion.suite.extent.VARIANTS", {row.name: row, other.name: other})
    assert not has_twin(row)
    assert has_twin(other) is expected


def test_base_models_have_smaller_images_where_nothing_is_said() -> None:
    assert len(OF_SMALLER_IMAGES) == 4
    for name in OF_SMALLER_IMAGES:
        row = choose_row(name, Request())
        assert row is not None
        assert row.spec == {**VARIANTS[name].spec, "image_size": 224}
        assert describe_extent(row) == f"all blocks, 224 x 224 pixels; whole with --all or -k {name}"


def test_large_variants_are_shortened_where_nothing_is_said() -> None:
    rows = {name: choose_row(name, Request()) for name in VARIANTS}
    assert {name for name, row in rows.items() if row == VARIANTS[name]} == WHOLE_BY_SIZE
    for name in VARIANTS.keys() - WHOLE_BY_SIZE - OF_SMALLER_IMAGES:
        row = rows[name]
        assert row is not None
        changed = {key: value for key, value in row.spec.items() if value != VARIANTS[name].spec.get(key, value)}
        has_maps = "ade20k" in name or name in DEPTH
        side = 56 if name in DEPTH else 64 if has_maps else 224
        smaller = {"image_size": side} if VARIANTS[name].spec["image_size"] != side else {}
        few = FEATURES if has_maps else 1 if "vit7b16" in name or name in TWINS else FEW
        maps = {"out_indices": (0, 1, 2, 3)} if has_maps else {}
        assert changed == {"depth": few} | smaller | maps
        assert row.spec.get("input_size") == (side if name.startswith("depth_anything") else None)
        size = f", {side} x {side} pixels" if smaller else ""
        whole = f"whole with --all or -k {name}"
        whole += ", where 27 GB fit into memory" if "vit7b16" in name else ""
        assert describe_extent(row) == f"{few} of {VARIANTS[name].spec['depth']} blocks, of full width{size}; {whole}"


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - WHOLE_BY_SIZE))
def test_a_shortened_variant_is_recognised_as_what_it_is(name: str) -> None:
    row = choose_row(name, Request())
    assert row is not None
    family = load_family(row.family)
    spec = family.spec_of(row)
    found = recognise(family.original_tensors(spec), **tell_settings(family, spec))
    assert (found.family.name, found.spec) == (row.family, spec)


@pytest.mark.parametrize(
    "request_",
    [
        Request(is_all=True),
        Request(keyword="dinov2_vitg14"),
        Request(weights="pretrained"),
        Request(artifacts=Path("artifacts")),
        Request(checkpoint=Path("teacher.pth")),
    ],
)
def test_it_is_whole_where_something_is_said(request_: Request) -> None:
    row = choose_row("dinov2_vitg14_reg", request_)
    assert row == VARIANTS["dinov2_vitg14_reg"]
    assert describe_extent(row) == ""


@pytest.mark.parametrize(("gigabytes", "blocks"), [(24, 1), (32, 40)])
@pytest.mark.parametrize("request_", [Request(is_all=True), Request(keyword="dinov3_vit7b16")])
def test_what_cannot_be_mapped_is_shortened_though_it_is_asked_for(
    gigabytes: int, blocks: int, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conversion.suite.extent.measure_memory", lambda: gigabytes * 2**30)
    row = choose_row("dinov3_vit7b16", request_)
    assert row is not None
    assert row.spec["depth"] == blocks


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("dinov2_vitl14", True),
        ("dinov2_vitl14-", True),
        ("dinov2_vitl14_reg", False),
        ("vits14 or (VITL14 and eager)", True),
        ("test_parity", False),
        ("test_parity and dinov2_vits14", False),
        ("not dinov2_vitl14", False),
        ("not vitg14 and not vitl14", False),
        ("", False),
    ],
)
def test_an_expression_names_a_variant(keyword: str, expected: bool) -> None:
    assert is_named("dinov2_vitl14", keyword) is expected


def test_a_model_that_is_no_official_one_has_no_row() -> None:
    assert choose_row("dinov2_custom", Request()) is None
    assert describe_extent(None) == ""
    assert not is_as_deep(None, None)


def test_the_table_says_that_it_was_a_few_blocks(tmp_path: Path) -> None:
    code, output = run(tmp_path, "-k", "large-cpu-float32-eager")
    assert code == 0, output
    remark = "2 of 24 blocks, of full width; whole with --all or -k data2vec_vision_large"
    assert f"data2vec_vision_large: {remark}" in output
