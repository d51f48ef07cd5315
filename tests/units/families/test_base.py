"""What a family need not say: the defaults of ``Family``, and ledgers whose entries know where they apply."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from conversion.errors import CheckpointError
from conversion.families.base import Family, families, load_family
from conversion.families.deviations import IMAGE_PROCESSOR_BACKEND
from conversion.mapping.key_map import add_parameters
from conversion.parity.deviations import Deviation
from tests.support.golden import read_golden

DINOV2 = load_family("dinov2")
NEEDED = (
    "name", "model_types", "matches", "build_spec", "recognise_spec", "build_config", "read_config", "select_key_map",
    "build_original", "list_stages", "settings", "list_open", "images",
)  # fmt: skip
DEFAULTS = {each.name: each.default for each in fields(Deviation)}


@pytest.fixture(name="plain")
def build_plain_family() -> Family[Any]:
    """A family that says what it must, and nothing else."""
    return Family(**{name: getattr(DINOV2, name) for name in NEEDED})


def test_what_a_family_must_say_is_said_by_name() -> None:
    with pytest.raises(TypeError, match=f"missing {len(NEEDED)} required keyword-only arguments"):
        Family()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Family("plain")  # type: ignore[misc, call-arg]


def test_what_it_does_not_say_is_refused_or_left_as_it_is(plain: Family[Any]) -> None:
    golden = read_golden("dinov2_tiny")
    tensors, spec = golden.state_dict, golden.spec
    with pytest.raises(CheckpointError, match="the authors' code is not supported for this family") as refused:
        plain.load_original(spec, tensors, Path("clone"))
    assert refused.value.hint == "Leave --original out."
    with pytest.raises(CheckpointError, match="timm has no dinov2 models"):
        plain.load_timm(spec, tensors)
    with pytest.raises(CheckpointError, match="An image size of 42 cannot be baked: the model is made for 70"):
        plain.bake_image_size(tensors, spec, 42)
    assert plain.bake_image_size(tensors, spec, 70) == (tensors, spec)
    assert plain.translate(tensors) == (tensors, "")
    assert plain.training.pack(spec, tensors) is tensors
    assert plain.training.choose_entry(spec) == ""
    assert plain.choose_attention() == "sdpa"
    assert plain.find_deviation(spec, (1, 3, 42, 56), "float64", "eager") is None
    assert plain.find_image_deviation(spec, (481, 640), 42) is None


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_every_entry_of_a_ledger_that_shows_knows_where(family: Family[Any]) -> None:
    for entry in family.ledger:
        is_avoided = entry.avoided or entry.name == IMAGE_PROCESSOR_BACKEND.name  # that one by whoever compares
        if is_avoided or entry.after_model:
            continue
        condition = "applies" if entry.original_attributes else "applies_to_image"
        assert getattr(entry, condition) is not DEFAULTS[condition], entry.name


def test_modules_have_a_weight_and_a_bias() -> None:
    modules = {"blocks.{}.qkv": ("layer.{}.query", "layer.{}.key"), "norm": "layernorm"}
    assert list(add_parameters(modules).items()) == [
        ("blocks.{}.qkv.weight", ("layer.{}.query.weight", "layer.{}.key.weight")),
        ("blocks.{}.qkv.bias", ("layer.{}.query.bias", "layer.{}.key.bias")),
        ("norm.weight", "layernorm.weight"),
        ("norm.bias", "layernorm.bias"),
    ]
