"""Depth heads on DINOv2: their authors' own, and Depth Anything; what is theirs alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.artifact.load import load_converted
from conversion.artifact.settings import find_settings_problems
from conversion.cli.app import main
from conversion.errors import CheckpointError, KeyMapError, VariantError
from conversion.families.base import load_family
from conversion.families.dinov2_depth.original import pad_to_patches
from conversion.families.told import Told, ToldStateDict
from conversion.families.variants import VARIANTS
from conversion.mapping import key_map
from conversion.mapping.key_map import shapes_of
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict
from conversion.state_dicts.filled import fill_in
from conversion.state_dicts.recognise import recognise
from conversion.suite.inputs import InputCase
from tests.support.golden import DEPTH, OF_ANOTHER_WIDTH, GoldenModel, list_options, read_golden, read_json
from tests.support.runs import run_original, verify_input

ANYTHING, METRIC, AUTHORS = "depth_anything_v2_tiny", "depth_anything_v2_tiny_metric", "dinov2_tiny_dd"


def convert(golden: GoldenModel, **settings: Any) -> conversion.Conversion:
    return conversion.convert(golden.state_dict, **{**golden.overrides, **settings})


def part(golden: GoldenModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dicts of the two files that a model of DINOv2's authors lies in."""
    head = golden.family.head
    assert head is not None
    return head.split(golden.state_dict)


def verify(name: str, case: InputCase, dtype: str = "float32") -> InputVerdict:
    golden = read_golden(name)
    original = golden.family.load_original(golden.spec, golden.state_dict)
    converted = load_converted(convert(golden), dtype=dtype)
    run = run_original(golden.family, golden.spec, original, case, getattr(torch, dtype))
    return verify_input(case.name, run, converted, golden.family.find_deviation(golden.spec, case.shape, dtype))


# ---- a head of another width: for its keys, and for the original


def test_a_head_that_no_class_can_hold_is_refused_and_its_keys_are_mapped() -> None:
    golden = read_golden(OF_ANOTHER_WIDTH)
    with pytest.raises(CheckpointError, match=r"16 channels; transformers' class takes 256 alone"):
        convert(golden)
    family, spec = golden.family, golden.spec
    converted = key_map.convert(golden.state_dict, family.expand_key_map(spec, 4))
    converted |= fill_in(family, spec, golden.state_dict, 4)
    recorded = read_json("converted_sha256.json")[OF_ANOTHER_WIDTH]
    assert {key: list(tensor.shape) for key, tensor in converted.items()} == {
        key: each["shape"] for key, each in recorded.items()
    }


def test_the_original_of_another_width_reproduces_what_was_recorded() -> None:
    golden = read_golden(OF_ANOTHER_WIDTH)
    weights = {key: tensor.double() for key, tensor in golden.state_dict.items()}
    model = golden.family.load_original(golden.spec, weights)
    for case in golden.cases:
        with torch.inference_mode():
            actual = model(case.inputs.pixel_values.double())
        compared = case.outputs.keys() & actual.keys()
        assert {"head_depth", "predicted_depth", "feature.3"} <= compared
        assert all((actual[name] - case.outputs[name]).abs().max() <= 1e-12 for name in compared)


# ---- two files


def test_backbone_and_head_from_two_files_are_the_model_of_one() -> None:
    golden = read_golden(AUTHORS)
    backbone, head = part(golden)
    assert not any(key.startswith("backbone.") for key in backbone)
    assert all(key.startswith("decode_head.") for key in head)
    whole, joined = convert(golden), conversion.convert(backbone, depth_head=head, **golden.overrides)
    assert joined.spec == whole.spec
    assert joined.state_dict.keys() == whole.state_dict.keys()
    assert all(is_bit_equal(tensor, whole.state_dict[key]) for key, tensor in joined.state_dict.items())


def test_what_is_no_depth_head_is_refused() -> None:
    golden = read_golden(AUTHORS)
    backbone, head = part(golden)
    with pytest.raises(CheckpointError, match=r"(?s)a depth head, and no model\..*--depth-head THIS_FILE"):
        conversion.convert(head, **golden.overrides)
    with pytest.raises(CheckpointError, match=r"(?s)no DPT head\..*no class for their linear depth heads"):
        conversion.convert(backbone, depth_head={"decode_head.conv_depth.weight": torch.ones(1)}, **golden.overrides)
    with pytest.raises(KeyMapError, match="has a depth head of its own"):
        conversion.convert(golden.state_dict, depth_head=head, **golden.overrides)
    with pytest.raises(VariantError, match=r"(?s)linear head file of its own.*Leave it out"):
        conversion.convert(golden.state_dict, linear_head={"weight": torch.ones(1, 1)}, **golden.overrides)


def test_a_named_model_asks_for_its_head() -> None:
    family = load_family("dinov2")
    backbone = family.original_tensors(family.spec_of(VARIANTS["dinov2_vits14"]))
    with pytest.raises(VariantError, match=r"dinov2_vits14_nyu_dpt needs its depth head file .*--depth-head"):
        conversion.convert(backbone, "dinov2_vits14_nyu_dpt")


# ---- what no tensor tells


@pytest.mark.parametrize("name", DEPTH)
@pytest.mark.parametrize("setting", ["max_depth", "out_indices", "num_attention_heads"])
def test_what_no_tensor_tells_is_asked_for(name: str, setting: str) -> None:
    golden = read_golden(name)
    told = {key: value for key, value in golden.overrides.items() if key != setting}
    with pytest.raises(CheckpointError, match=f"{setting}: give --{setting.replace('_', '-')}"):
        conversion.convert(golden.state_dict, **told)


@pytest.mark.parametrize("blocks", [(0, 1, 2), (0, 1, 3, 2), (0, 1, 2, 2), (8, 9, 10, 12)])
def test_blocks_that_no_head_can_see_are_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="out_indices"):
        convert(read_golden(ANYTHING), out_indices=blocks)


def test_images_that_keep_their_size_cannot_be_given_one() -> None:
    golden = read_golden("dinov2_tiny_dd")
    with pytest.raises(VariantError, match=r"dinov2_depth model has no input_size.\n?.*Leave out --input-size"):
        conversion.convert(golden.state_dict, **golden.overrides, input_size=98)


def test_a_head_in_metres_has_a_largest_depth() -> None:
    golden = read_golden("dinov2_tiny_dd")
    with pytest.raises(VariantError, match=r"max_depth: 0 is no whole number from 1 up"):
        conversion.convert(golden.state_dict, **{**golden.overrides, "max_depth": 0})


def test_a_damaged_model_is_told_by_the_original_s_keys() -> None:
    golden = read_golden(ANYTHING)
    tensors = dict(golden.state_dict)
    del tensors["pretrained.pos_embed"], tensors["depth_head.projects.2.weight"]
    with pytest.raises(CheckpointError) as error:
        conversion.convert(tensors, **golden.overrides)
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "pretrained.pos_embed",
        "depth_head.projects.2.weight",
    ]


# ---- the ledger


@pytest.mark.parametrize("name", DEPTH)
@pytest.mark.parametrize("size", [(42, 42), (56, 98)])
def test_position_embeddings_differ_at_other_sizes_by_the_offset_alone(name: str, size: tuple[int, int]) -> None:
    result = verify(name, InputCase("any", *size))
    assert "position-embeddings-offset" in result.deviation
    assert result.verdict is Verdict.EXACT
    assert result.otherwise["returned.predicted_depth"].max_abs > 1e-2, "gone: take it out of the ledger"


def test_the_original_adds_its_least_depth() -> None:
    result = verify(AUTHORS, InputCase("native", 70, 70), dtype="float64")
    assert result.deviation == "min-depth-offset"
    assert result.verdict is not Verdict.FAILED  # so narrow a model's products are summed in another order
    assert abs(result.otherwise["returned.predicted_depth"].max_abs - 1e-3) < 1e-12, "gone: take it out of the ledger"


@pytest.mark.parametrize("size", [(85, 85), (65, 80)])
def test_the_original_puts_zeros_around_parts_of_patches(size: tuple[int, int]) -> None:
    """The ledger's patch-padding: transformers cuts them off; its image processor puts the zeros."""
    golden = read_golden(AUTHORS)
    converted = load_converted(convert(golden), dtype="float64")
    weights = {key: tensor.double() for key, tensor in golden.state_dict.items()}
    original = golden.family.load_original(golden.spec, weights)
    original.interpolate_offset = original.min_depth = 0.0
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        padded, actual = original(pixels)["head_depth"], converted(pixels).predicted_depth
        assert padded.shape != actual.shape, "gone: take it out of the ledger"
        assert (converted(pad_to_patches(pixels, 14)).predicted_depth - padded).abs().max() <= 1e-12
        original.pads = False
        assert (original(pixels)["head_depth"] - actual).abs().max() <= 1e-12
        assert original(pixels)["predicted_depth"].shape[-2:] == size


def test_maps_of_several_images_lie_otherwise_in_memory() -> None:
    result = verify(ANYTHING, InputCase("native", 70, 70, batch=2))
    assert result.deviation in ("feature-memory-layout", "")  # these weights need not show it
    assert result.verdict is Verdict.EXACT


# ---- settings of a config that are wrong: FACTS of what each costs are in the ledger


WRONG: dict[str, tuple[str, dict[str, object], str, str]] = {
    "no norm":         (ANYTHING, {"apply_layernorm": False}, "config.apply_layernorm", "features-without-norm"),
    "from 0":          (ANYTHING, {"out_indices": [2, 5, 8, 11]}, "backbone_config.out_indices", "feature-indices"),
    "last blocks":     (ANYTHING, {"out_indices": [9, 10, 11, 12]}, "backbone_config.out_indices", "feature-indices"),
    "eps":             (ANYTHING, {"layer_norm_eps": 1e-5}, "backbone_config.layer_norm_eps", ""),
    "maps":            (ANYTHING, {"reshape_hidden_states": True}, "backbone_config.reshape_hidden_states", ""),
    "metric":          (ANYTHING, {"depth_estimation_type": "metric"}, "depth_estimation_type", "metric-default"),
    "a factor":        (ANYTHING, {"max_depth": 20}, "max_depth", "metric-default"),
    "relative":        (METRIC, {"depth_estimation_type": "relative"}, "depth_estimation_type", "metric-default"),
    "no factor":       (METRIC, {"max_depth": 1}, "max_depth", "metric-default"),
    "norm":            (AUTHORS, {"apply_layernorm": True}, "backbone_config.apply_layernorm", "features-with-norm"),
    "from 0, too":     (AUTHORS, {"out_indices": [2, 5, 8, 11]}, "backbone_config.out_indices", "feature-indices"),
    "no projection":   (AUTHORS, {"add_projection": False}, "add_projection", "dpt-head-defaults"),
    "biases":          (AUTHORS, {"use_bias_in_fusion_residual": None}, "use_bias_in_fusion", "dpt-head-defaults"),
    "no CLS token":    (AUTHORS, {"readout_type": "ignore"}, "readout_type", "readout-type"),
    "another width":   (AUTHORS, {"fusion_hidden_size": 16}, "fusion_hidden_size", ""),
    "other channels":  (AUTHORS, {"neck_hidden_sizes": [96, 192, 384, 768]}, "neck_hidden_sizes", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_of_a_config_is_noticed_and_named(case: str, tmp_path: Path) -> None:
    name, fields, where, entry = WRONG[case]
    golden = read_golden(name)
    out = convert(golden)
    conversion.save_artifact(out, tmp_path / "artifact")
    sizes = {out.input_size: "its own"}
    assert not list(find_settings_problems(tmp_path / "artifact", golden.family, golden.spec, sizes=sizes))
    path = tmp_path / "artifact" / "config.json"
    config = json.loads(path.read_text())
    for field, value in fields.items():
        part_of = config if field in config and field not in config["backbone_config"] else config["backbone_config"]
        part_of[field] = value
        if field == "out_indices":  # which these would contradict
            part_of.pop("out_features", None)
    path.write_text(json.dumps(config))
    problems = "\n".join(find_settings_problems(tmp_path / "artifact", golden.family, golden.spec, sizes=sizes))
    assert where in problems
    assert f"known deviation {entry!r}" in problems if entry else "known deviation" not in problems


def test_another_s_conversion_need_not_have_our_fields(tmp_path: Path) -> None:
    golden = read_golden(AUTHORS)
    conversion.save_artifact(convert(golden), tmp_path / "artifact")
    path = tmp_path / "artifact" / "config.json"
    config = json.loads(path.read_text())
    for field in ("min_depth", "max_depth", "original_lacks"):
        del config[field]
    path.write_text(json.dumps(config))
    assert not list(find_settings_problems(tmp_path / "artifact", golden.family, golden.spec, sizes={70: "its own"}))


@pytest.mark.parametrize("variant", ["dinov2_vits14_nyu_dpt", "depth_anything_v2_vits"])
def test_a_depth_head_on_a_backbone_with_registers_is_refused(variant: str) -> None:
    family = load_family(VARIANTS[variant].family)
    spec = replace(family.spec_of(VARIANTS[variant]), num_register_tokens=4)
    with pytest.raises(CheckpointError, match=r"with registers is not converted.*\n.*register_tokens \(1, 4, 384\)"):
        family.recognise_spec(shapes_of(family.original_tensors(spec)), max_depth=spec.max_depth, num_attention_heads=6)


@pytest.mark.parametrize("variant", ["dinov2_vits14_nyu_dpt", "depth_anything_v2_vits"])
def test_a_file_that_tells_another_resampling_than_a_depth_head_s_code_has_is_refused(variant: str) -> None:
    family = load_family(VARIANTS[variant].family)
    spec = family.spec_of(VARIANTS[variant])
    tensors, by = family.original_tensors(spec), "config.yaml"
    settings = {"max_depth": spec.max_depth, "out_indices": spec.out_indices, "num_attention_heads": spec.num_heads}
    told = {"interpolate_offset": Told(0.0, by), "interpolate_antialias": Told(False, by)}
    with pytest.raises(CheckpointError, match=r"interpolate_offset: config.yaml says 0; this model's code has 0\.1"):
        recognise(ToldStateDict(tensors, told), **settings)
    told["interpolate_offset"] = Told(0.1, by)
    assert recognise(ToldStateDict(tensors, told), **settings).spec.interpolate_offset == 0.1


@pytest.mark.parametrize("name", [ANYTHING, AUTHORS])
def test_a_folder_that_was_baked_is_compared_at_its_size(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The size stands in the config of the backbone within."""
    golden = read_golden(name)
    size = golden.spec.image_size + golden.spec.patch_size
    torch.save(golden.state_dict, tmp_path / "original.pth")
    folder = conversion.save_artifact(convert(golden, image_size=size, input_size=None), tmp_path / "baked")
    assert main(["compare", str(tmp_path / "original.pth"), str(folder), *list_options(name)]) == 0
    assert f"The same model at {size} x {size} pixels" in capsys.readouterr().out
