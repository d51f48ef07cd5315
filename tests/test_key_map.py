"""Level 1: every key is renamed, split or dropped by name, exactly once; and the engine that sees to it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conversion import key_map
from conversion.dinov2.config import Dinov2Spec
from conversion.errors import KeyMapError
from conversion.family import families, load_family
from conversion.parity.metrics import is_bit_equal
from conversion.variants import VARIANTS
from tests.golden import DINOV2, read_golden, read_json
from tests.strategies import state_dicts

TINY = {"a": "b", "blocks.{}.qkv": ("layer.{}.q", "layer.{}.k", "layer.{}.v")}


@pytest.mark.parametrize("name", VARIANTS)
def test_original_has_the_official_keys_and_shapes(name: str) -> None:
    variant = VARIANTS[name]
    family = load_family(variant.family)
    assert family.original_shapes(family.spec_of(variant)) == read_official_shapes(name)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_official_key_is_mapped_and_every_target_key_produced(name: str) -> None:
    variant = VARIANTS[name]
    family = load_family(variant.family)
    spec = family.spec_of(variant)
    expanded = key_map.expand(family.select_key_map(spec), spec.depth)
    official = read_official_shapes(name)
    assert expanded.keys() == official.keys()
    produced = [target for targets in expanded.values() for target in targets]
    assert sorted(produced) == sorted(read_on_disk_keys(spec))
    meta = {key: torch.empty(shape, device="meta") for key, shape in official.items()}
    assert key_map.convert(meta, expanded).keys() == set(produced)
    restored = key_map.restore(key_map.convert(meta, expanded), expanded)
    assert {key: tuple(tensor.shape) for key, tensor in restored.items()} == official


def read_official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The official files' keys and shapes, backbone and, under its prefix, linear head."""
    recorded = read_json("original_keys.json")
    entry = recorded[VARIANTS[name].backbone]
    shapes = {
        key.format(index): tuple(shape)
        for key, shape in entry["keys"].items()
        for index in (range(entry["depth"]) if "{}" in key else (None,))
    }
    head = recorded[f"{name}.linear_head"]["keys"] if "linear_head" in VARIANTS[name].files else {}
    return shapes | {f"linear_head.{key}": tuple(shape) for key, shape in head.items()}


def read_on_disk_keys(spec: Dinov2Spec) -> set[str]:
    """The target's keys at this depth, from what the official converters made of tiny models with these features."""
    with_classes = bool(spec.num_classes)
    tiny = next(
        golden
        for golden in map(read_golden, DINOV2)
        if golden.spec.num_register_tokens == spec.num_register_tokens and bool(golden.linear_head) == with_classes
    )
    keys = read_json("converted_sha256.json")[tiny.name]
    blocks = {key for key in keys if ".layer.0." in key}
    if spec.ffn == "swiglu":
        swiglu = {key for key in read_json("converted_sha256.json")["dinov2_tiny_swiglu"] if ".layer.0.mlp." in key}
        prefix = next(iter(blocks)).partition("encoder.")[0]
        blocks = {key for key in blocks if ".mlp." not in key} | {prefix + key for key in swiglu}
    outside = {key for key in keys if ".layer." not in key}
    return outside | {key.replace(".layer.0.", f".layer.{i}.") for key in blocks for i in range(spec.depth)}


def test_every_row_of_the_tables_is_used_by_some_variant() -> None:
    from conversion.dinov2 import key_map as tables

    rows = {source for table in (tables.KEY_MAP, tables.REGISTERS, tables.MLP, tables.SWIGLU, tables.LINEAR_HEAD)
            for source in table}  # fmt: skip
    used = {source for family in families() for variant in VARIANTS.values() if variant.family == family.name
            for source in family.select_key_map(family.spec_of(variant))}  # fmt: skip
    assert rows <= used


def test_drops_carry_a_reason_and_match_no_official_key() -> None:
    for family in families():
        assert all(len(reason) > 10 for reason in family.dropped.values())
    for name, variant in VARIANTS.items():
        official = {key: torch.empty(0) for key in read_official_shapes(name)}
        assert key_map.drop(official, load_family(variant.family).dropped) == (official, {})


def test_expand_counts_blocks_through() -> None:
    assert key_map.expand(TINY, 2) == {
        "a": ("b",),
        "blocks.0.qkv": ("layer.0.q", "layer.0.k", "layer.0.v"),
        "blocks.1.qkv": ("layer.1.q", "layer.1.k", "layer.1.v"),
    }


def test_expand_refuses_targets_that_collide() -> None:
    with pytest.raises(KeyMapError, match="b: produced by a, c"):
        key_map.expand({"a": "b", "c": "b"}, 1)


def test_account_names_every_problem_at_once() -> None:
    expected = {"a": (2, 3), "b": (4,), "c": (1,), "d": (1,)}
    state_dict = {"a": torch.zeros(3, 2), "c": torch.tensor([float("nan")]), "d": torch.ones(1), "x": torch.zeros(7)}
    with pytest.raises(KeyMapError) as raised:
        key_map.account(state_dict, expected, subject="tiny", hint="Look again.")
    assert str(raised.value).splitlines() == [
        "tiny: 4 problem(s) with its tensors.",
        "  - missing: b (4,)",
        "  - unexpected: x (7,)",
        "  - wrong shape: a is (3, 2), expected (2, 3) (transposed?)",
        "  - c: 1 of 1 values are NaN or Inf",
        "Look again.",
    ]


@settings(deadline=None, max_examples=50)
@given(state_dicts())
def test_conversion_restores_bit_for_bit_and_leaves_its_input_alone(case: tuple[Dinov2Spec, dict[str, Tensor]]) -> None:
    spec, state_dict = case
    before = {key: tensor.clone() for key, tensor in state_dict.items()}
    expanded = key_map.expand(load_family("dinov2").select_key_map(spec), spec.depth)
    converted = key_map.convert(state_dict, expanded)
    restored = key_map.restore(converted, expanded)
    assert list(state_dict) == list(before)
    assert all(is_bit_equal(tensor, state_dict[key]) for key, tensor in before.items())
    assert restored.keys() == before.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in before.items())
    storages = {tensor.untyped_storage().data_ptr() for tensor in state_dict.values()}
    assert {tensor.untyped_storage().data_ptr() for tensor in converted.values()} <= storages
    in_table_order = key_map.convert({key: state_dict[key] for key in expanded}, expanded)
    assert list(converted) == list(in_table_order)
    assert all(is_bit_equal(tensor, converted[key]) for key, tensor in in_table_order.items())


@settings(deadline=None, max_examples=50)
@given(state_dicts(), st.data())
def test_removing_or_adding_any_key_raises_and_names_it(
    case: tuple[Dinov2Spec, dict[str, Tensor]], data: st.DataObject
) -> None:
    spec, state_dict = case
    family = load_family("dinov2")
    expected = family.original_shapes(spec)
    expanded = key_map.expand(family.select_key_map(spec), spec.depth)
    removed = data.draw(st.sampled_from(sorted(state_dict)))
    added = data.draw(st.text(min_size=1).filter(lambda key: key not in state_dict))
    fewer = {key: tensor for key, tensor in state_dict.items() if key != removed}
    more = state_dict | {added: torch.zeros(1)}
    converted = key_map.convert(state_dict, expanded)
    for call, key in (
        (lambda: key_map.account(fewer, expected, subject="tiny"), removed),
        (lambda: key_map.account(more, expected, subject="tiny"), added),
        (lambda: key_map.convert(fewer, expanded), removed),
        (lambda: key_map.convert(more, expanded), added),
        (lambda: key_map.restore(converted | {added: torch.zeros(1)}, expanded), added),
    ):
        with pytest.raises(KeyMapError) as raised:
            call()
        assert any(key in problem for problem in raised.value.problems)
