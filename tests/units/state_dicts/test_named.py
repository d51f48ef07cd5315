"""A variant that was named, and a state dict that is another model, or none that is known; and what was left out."""

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import KeyMapError, VariantError
from conversion.families.base import load_family
from conversion.families.variants import VARIANTS
from tests.support.golden import read_golden


def without(name: str, *keys: str) -> dict[str, Tensor]:
    """An official variant's state dict without values, and without some of its keys."""
    family = load_family(VARIANTS[name].family)
    return {key: tensor for key, tensor in family.original_tensors(family.spec_of(VARIANTS[name])).items()
            if key not in keys}  # fmt: skip


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
