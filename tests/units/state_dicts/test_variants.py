"""Official variants: each is recognised from its keys and shapes, as far as these tell."""

import pytest

import conversion
from conversion import VARIANTS
from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.families.settings import option_of
from tests.support.recorded_keys import meta

DINOV2_VARIANTS = [name for name, variant in VARIANTS.items() if variant.family == "dinov2"]


# no other family's models have their shapes
UNLIKE = [
    name
    for name, row in VARIANTS.items()
    if row.spec.get("task", "backbone") == "backbone" and "vit7b16" not in name
    if row.family not in ("depth_anything", "dinov2_depth")
]

# of two names, and what they leave open is the same
TWICE = [name for name in VARIANTS if name.startswith("beitv2") and name.endswith(("_pt1k", "_pt1k_300e"))]

OPEN = {"depth_anything": "max_depth", "dinov2_depth": "max_depth"}
"""What official models of the same shapes have otherwise; of others the normalisation."""


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_recognised_from_keys_and_shapes(name: str) -> None:
    if name in TWICE:
        assert conversion.convert(meta(name)).variant == "beit_custom"
    elif name not in UNLIKE:
        setting = OPEN.get(VARIANTS[name].family, "image_mean")
        asked = rf"(?s){setting}: give {option_of(setting)} .*name it.*-k NAME .vision-parity variants"
        with pytest.raises(CheckpointError, match=asked):
            conversion.convert(meta(name))
    out = conversion.convert(meta(name), None if name in UNLIKE else name)
    assert out.variant == name
    assert out.spec == load_family(out.family).spec_of(VARIANTS[name])
    # a fine-tuned model may have another normalisation, and one layer of a depth head is filled in
    assert bool(out.notes) == ((out.family in ("dinov2", "dinov3") and name in UNLIKE) or bool(out.filled_in))
    assert getattr(out.config, "backbone_config", out.config).num_attention_heads == VARIANTS[name].spec["num_heads"]
    assert out.architecture == load_family(out.family).spec_of(VARIANTS[name]).hf_class
    assert out.dropped.keys() | out.source.keys() == meta(name).keys()


def test_there_are_sixteen_variants_of_dinov2_under_their_hub_names() -> None:
    assert len(DINOV2_VARIANTS) == 16
    large = VARIANTS["dinov2_vitl14_reg_1layer"]
    assert large.files["checkpoint"].endswith("/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth")
    assert large.files["linear_head"].endswith("/dinov2_vitl14/dinov2_vitl14_reg4_linear_head.pth")
    assert large.hub_name == "dinov2-with-registers-large-imagenet1k-1-layer"
    assert {name for name in DINOV2_VARIANTS if VARIANTS[name].slow} == {n for n in DINOV2_VARIANTS if "vitg14" in n}
