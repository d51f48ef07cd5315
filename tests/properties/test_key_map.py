"""Level 1: every key is renamed, split or dropped by name, exactly once; and the engine that sees to it."""

import tempfile
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conversion.artifact.weights import read_tensors
from conversion.errors import KeyMapError
from conversion.families.base import Family, Spec, families, load_family
from conversion.families.labels import choose_labels
from conversion.families.variants import VARIANTS
from conversion.mapping import key_map
from conversion.mapping.tensors import fuse_rows
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.filled import fill_in, list_layout
from conversion.state_dicts.restore import list_parts
from tests.support.recorded_keys import READERS, RECORDED, read_official_shapes
from tests.support.strategies import state_dicts

TINY = {"a": "b", "blocks.{}.qkv": ("layer.{}.q", "layer.{}.k", "layer.{}.v")}


@pytest.mark.parametrize("name", RECORDED)
def test_original_has_the_official_keys_and_shapes(name: str) -> None:
    variant = VARIANTS[name]
    family = load_family(variant.family)
    assert family.original_shapes(family.spec_of(variant)) == read_official_shapes(name)


@pytest.mark.parametrize("name", RECORDED)
def test_every_official_key_is_mapped_and_every_target_key_produced(name: str) -> None:
    variant = VARIANTS[name]
    family = load_family(variant.family)
    spec = family.spec_of(variant)
    # the official converters ran on transformers 4
    expanded = family.expand_key_map(spec, 4 if variant.family in READERS else None)
    official = {key: torch.empty(shape, device="meta") for key, shape in read_official_shapes(name).items()}
    kept, dropped = key_map.drop(official, family.dropped)
    assert expanded.keys() == kept.keys()
    assert len(expanded) + len(dropped) == len(official)
    produced = [target for targets in expanded.values() for target in targets if target]
    filled = list_layout(family, spec, 4 if variant.family in READERS else None) - set(produced)
    assert sorted([*produced, *filled]) == sorted(READERS.get(variant.family, partial(read_saved_keys, family))(spec))
    assert key_map.convert(kept, expanded).keys() == set(produced)
    restored = key_map.restore(key_map.convert(kept, expanded), expanded, kept)
    assert key_map.shapes_of(restored) == key_map.shapes_of(kept)


def build_empty(family: Family[Any], spec: Any) -> Any:
    """The transformers model of a spec, on the meta device."""
    import transformers

    with torch.device("meta"):
        config = family.build_config(spec, choose_labels(spec.task, spec.num_classes, None))
        return getattr(transformers, spec.hf_class)(config)


def read_saved_keys(family: Family[Any], spec: Any) -> set[str]:
    """Of a family whose official converters nothing is recorded of: what the installed library writes."""
    model = build_empty(family, spec)
    with tempfile.TemporaryDirectory() as directory:
        model.to_empty(device="cpu").save_pretrained(directory)
        return set(read_tensors(Path(directory)))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_installed_library_builds_as_many_numbers(name: str) -> None:
    """The model that transformers builds has as many numbers; in memory it may call and cut its tensors otherwise."""
    variant = VARIANTS[name]
    family = load_family(variant.family)
    spec = family.spec_of(variant)
    spec = family.complete(spec)  # with what is filled in
    official = family.converted_tensors(spec)
    converted = key_map.convert(official, family.expand_key_map(spec))
    built = build_empty(family, spec).state_dict().values()
    assert sum(tensor.numel() for tensor in built) == sum(tensor.numel() for tensor in converted.values())


@pytest.mark.parametrize(("folder", "name"), [
    ("dinov2",            "dinov2"),
    ("dinov3",            "dinov3"),
    ("beit_architecture", "beit"),
])  # fmt: skip
def test_every_row_of_the_tables_is_used_by_some_model(folder: str, name: str) -> None:
    tables = import_module(f"conversion.families.{folder}.key_map")
    others = ("DROPPED", "UNPLACED", "MODULE_TENSORS")
    names = [name for name in vars(tables) if name.isupper() and name not in others and not name.endswith("_MODULES")]
    rows = {source for table in names for source in vars(tables)[table]}
    family = load_family(name)
    specs = [family.spec_of(variant) for variant in VARIANTS.values() if variant.family == name]
    if name == "beit":  # no official model has position embeddings, or a final norm without a head
        specs.append(replace(specs[0], absolute_positions=True, task="backbone"))
    used = {source for spec in specs for source in family.select_key_map(spec, 5)}
    assert rows <= used | {source.removeprefix("backbone.") for source in used}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_converted_key_feeds_some_capture_point(name: str) -> None:
    family = load_family(VARIANTS[name].family)
    spec = family.spec_of(VARIANTS[name])
    patterns = [key for stage in family.list_stages(spec) for point in stage.points for key in point.sources]
    fed = {key for key in family.converted_shapes(spec) if any(fnmatchcase(key, pattern) for pattern in patterns)}
    # norms and blocks of training alone have no place, and no part in what is computed
    idle = {key for key in family.converted_shapes(spec) if key.startswith(("local_cls_norm.", "cls_pt_layers."))}
    assert family.converted_shapes(spec).keys() - fed == idle


def test_seventy_eight_names_of_a_segmentation_model_differ_between_majors() -> None:
    """The ledger's segmentation-head-names."""
    family = load_family("data2vec_vision")
    spec = family.spec_of(VARIANTS["data2vec_vision_base_ade20k"])
    old, new = ({name for names in family.expand_key_map(spec, major).values() for name in names} for major in (4, 5))
    assert len(old - new) == len(new - old) == 78


def test_drops_carry_a_reason_and_match_the_official_keys_that_have_no_place() -> None:
    for family in families():
        assert all(len(reason) > 10 for reason in (*family.dropped.values(), *family.unplaced.values()))
    ends = set()
    for name in RECORDED:
        variant = VARIANTS[name]
        official = {key: torch.empty(0) for key in read_official_shapes(name)}
        _, dropped = key_map.drop(official, load_family(variant.family).dropped)
        ends |= {(variant.family, key.rpartition(".")[2 if "index" in key else 0]) for key in dropped}
    indices = {(family, "relative_position_index") for family in ("data2vec_vision", "beit")}
    assert ends == {("data2vec_vision", "lm_head")} | indices


@pytest.mark.parametrize("name", VARIANTS)
def test_what_has_no_place_carries_a_reason(name: str) -> None:
    family = load_family(VARIANTS[name].family)
    unplaced = key_map.list_unplaced(family.expand_key_map(family.spec_of(VARIANTS[name])))
    assert all(key_map.find_reason(key, family.unplaced) for key in unplaced)
    assert bool(unplaced) == (family.name == "dinov3" or "num_cls_layers" in VARIANTS[name].spec)


def test_a_part_without_a_place_comes_back_from_what_was_kept() -> None:
    expanded = {"qkv": ("q", "", "v"), "periods": ("",), "token": (key_map.WithAxis("token"),)}
    state_dict = {"qkv": torch.arange(6.0), "periods": torch.ones(2), "token": torch.zeros(1, 4)}
    converted = key_map.convert(state_dict, expanded)
    assert key_map.list_unplaced(expanded) == ["qkv", "periods"]
    assert key_map.shapes_of(converted) == {"q": (2,), "v": (2,), "token": (1, 1, 4)}
    converted["q"] = torch.tensor([7.0, 8.0])  # as after training: what has a place is the model's own
    restored = key_map.restore(converted, expanded, {"qkv": state_dict["qkv"], "periods": state_dict["periods"]})
    assert restored["qkv"].tolist() == [7, 8, 2, 3, 4, 5]
    assert restored["periods"].tolist() == [1, 1]
    assert restored["token"].shape == (1, 4)
    lost = key_map.restore(converted, expanded)
    assert lost["qkv"].tolist() == [7, 8, 0, 0, 4, 5]
    assert lost.keys() == {"qkv", "token"}


def test_expand_counts_blocks_through() -> None:
    assert key_map.expand(TINY, 2) == {
        "a": ("b",),
        "blocks.0.qkv": ("layer.0.q", "layer.0.k", "layer.0.v"),
        "blocks.1.qkv": ("layer.1.q", "layer.1.k", "layer.1.v"),
    }


def test_expand_refuses_targets_that_collide() -> None:
    with pytest.raises(KeyMapError, match="b: produced by a, c"):
        key_map.expand({"a": "b", "c": "b"}, 1)


def test_every_problem_is_named_at_once() -> None:
    shapes = {"a": (2, 3), "b": (4,), "c": (1,), "d": (1,)}
    expected = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    expected |= {"e": torch.tensor(0), "f": torch.tensor(0), "g": torch.tensor(0.0), "h": torch.eye(2)}
    state_dict = {"a": torch.zeros(3, 2), "c": torch.tensor([float("nan")]), "d": torch.ones(1), "x": torch.zeros(7),
                  "e": torch.tensor(3), "f": torch.tensor(3.0), "g": torch.tensor(3),
                  "h": torch.eye(2).to_sparse()}  # fmt: skip
    with pytest.raises(KeyMapError) as raised:
        key_map.check_complete(state_dict, expected, subject="tiny")
    assert str(raised.value).splitlines() == [
        "tiny: 7 problem(s) with its tensors.",
        "  - missing: b (4,)",
        "  - unexpected: x (7,)",
        "  - wrong shape: a is (3, 2), expected (2, 3) (transposed?)",
        "  - wrong dtype: f is torch.float32, torch.strided, expected a dense torch.int64",
        "  - c: 1 of 1 values are NaN or Inf",
        "  - g: integers (torch.int64)",
        "  - h: not a dense floating-point tensor (torch.float32, torch.sparse_coo)",
        " ".join(key_map.REMEDIES.values()),
    ]


@settings(deadline=None, max_examples=50)
@given(state_dicts())
def test_conversion_restores_bit_for_bit_and_leaves_its_input_alone(
    case: tuple[Family[Any], Spec, dict[str, Tensor]],
) -> None:
    family, spec, state_dict = case
    before = {key: tensor.clone() for key, tensor in state_dict.items()}
    expanded = family.expand_key_map(spec)
    converted = key_map.convert(state_dict, expanded)
    beside = {key: state_dict[key] for key in key_map.list_unplaced(expanded)}
    restored = key_map.restore(converted, expanded, beside)
    assert list(state_dict) == list(before)
    assert all(is_bit_equal(tensor, state_dict[key]) for key, tensor in before.items())
    assert restored.keys() == before.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in before.items())
    whole = key_map.convert(state_dict, expanded) | fill_in(family, spec, state_dict)
    assert whole.keys() == list_layout(family, spec)
    config = family.build_config(spec, choose_labels(spec.task, spec.num_classes, None))
    assert family.read_spec(config, spec) == spec
    back = {key: fuse_rows(parts) for key, parts in list_parts(whole, config, beside)}
    assert back.keys() == before.keys()
    assert all(is_bit_equal(tensor, back[key]) for key, tensor in before.items())
    storages = {tensor.untyped_storage().data_ptr() for tensor in state_dict.values()}
    assert {tensor.untyped_storage().data_ptr() for tensor in converted.values()} <= storages
    in_table_order = key_map.convert({key: state_dict[key] for key in expanded}, expanded)
    assert list(converted) == list(in_table_order)
    assert all(is_bit_equal(tensor, converted[key]) for key, tensor in in_table_order.items())


@settings(deadline=None, max_examples=50)
@given(state_dicts(), st.data())
def test_removing_or_adding_any_key_raises_and_names_it(
    case: tuple[Family[Any], Spec, dict[str, Tensor]], data: st.DataObject
) -> None:
    family, spec, state_dict = case
    expected = family.converted_tensors(spec)
    expanded = family.expand_key_map(spec)
    removed = data.draw(st.sampled_from(sorted(state_dict)))
    converted = key_map.convert(state_dict, expanded)
    added = data.draw(st.text(min_size=1).filter(lambda key: key not in state_dict and key not in converted))
    fewer = {key: tensor for key, tensor in state_dict.items() if key != removed}
    more = state_dict | {added: torch.zeros(1)}
    for call, key in (
        (lambda: key_map.check_complete(fewer, expected, subject="tiny"), removed),
        (lambda: key_map.check_complete(more, expected, subject="tiny"), added),
        (lambda: key_map.convert(fewer, expanded), removed),
        (lambda: key_map.convert(more, expanded), added),
        (lambda: key_map.restore(converted | {added: torch.zeros(1)}, expanded), added),
    ):
        with pytest.raises(KeyMapError) as raised:
            call()
        assert any(key in problem for problem in raised.value.problems)
