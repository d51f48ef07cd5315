"""DINOv2 as a backbone that returns features: the outputs of blocks, as the authors' ``get_intermediate_layers``."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.artifact.load import load_converted, load_model
from conversion.cli.app import main
from conversion.errors import CheckpointError, VariantError
from conversion.families.dinov2.original import Dinov2
from conversion.families.told import Told, ToldStateDict
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import Verdict
from conversion.suite.inputs import InputCase, list_inputs
from tests.support.golden import GoldenModel, list_options, read_golden
from tests.support.recorded_keys import meta
from tests.support.runs import run_original, verify_input

MODELS = ("dinov2_tiny", "dinov2_tiny_reg", "dinov2_tiny_swiglu")


def convert(golden: GoldenModel, **settings: Any) -> conversion.Conversion:
    return conversion.convert(golden.state_dict, **golden.overrides, **settings)


def load_original(golden: GoldenModel) -> Dinov2:
    weights = {key: tensor.double() for key, tensor in golden.state_dict.items()}
    model = golden.family.load_original(golden.spec, weights)
    assert isinstance(model, Dinov2)
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("reshape", [True, False])
def test_every_block_s_output_is_the_recorded_one(name: str, norm: bool, reshape: bool) -> None:
    """No code of ours in the reference but the final norm: the blocks' outputs were recorded."""
    golden = read_golden(name)
    blocks = tuple(range(golden.spec.depth))
    out = convert(golden, out_indices=blocks, apply_layernorm=norm, reshape_hidden_states=reshape)
    assert out.architecture == ("Dinov2WithRegistersBackbone" if "reg" in name else "Dinov2Backbone")
    assert list(out.config.out_indices) == [block + 1 for block in blocks]
    original, model = load_original(golden), load_converted(out, dtype="float64")
    first = 1 + golden.config["registers"]
    case = next(case for case in golden.cases if case.inputs.pixel_values.shape[-1] == golden.spec.image_size)
    pixels = case.inputs.pixel_values.double()
    grid = pixels.shape[-1] // golden.spec.patch_size
    with torch.inference_mode():
        features = model(pixels).feature_maps
        assert len(features) == len(blocks)
        for block, feature in zip(blocks, features, strict=True):
            tokens: Tensor = case.outputs[f"block.{block}"]
            tokens = original.norm(tokens) if norm else tokens
            expected = tokens[:, first:].transpose(1, 2).unflatten(-1, (grid, grid)) if reshape else tokens
            assert (feature - expected).abs().max() <= 1e-12
        if norm and reshape:
            layers = original.get_intermediate_layers(pixels, blocks)
            assert all(
                (feature.flatten(2).transpose(1, 2) - each).abs().max() <= 1e-12
                for feature, each in zip(features, layers, strict=True)
            )


@pytest.mark.parametrize("name", ["dinov2_tiny", "dinov2_tiny_reg"])
@pytest.mark.parametrize("settings", [{"out_indices": (0, 2)}, {"out_indices": "last", "apply_layernorm": False}])
def test_it_is_exact_on_every_input(name: str, settings: dict[str, Any]) -> None:
    golden = read_golden(name)
    out = convert(golden, **settings)
    spec, converted = out.spec, load_converted(out)
    original = golden.family.load_original(spec, out.source)
    names = [point.name for stage in golden.family.list_stages(spec) for point in stage.points]
    assert [each for each in names if each.startswith("returned")] == [
        f"returned.feature.{index}" for index in range(len(spec.out_indices))
    ]
    assert ("unused.layernorm.weight" in names) == (not spec.apply_layernorm)
    cases = [case for case in list_inputs(spec, spec.image_size, None) if not case.photo and not case.baked]
    assert "masked" not in [case.name for case in cases]  # transformers' backbone takes no masks
    for case in cases:
        deviation = golden.family.find_deviation(spec, case.shape)
        result = verify_input(case.name, run_original(golden.family, spec, original, case), converted, deviation)
        assert result.verdict is Verdict.EXACT, case.name


def test_another_block_s_output_is_noticed() -> None:
    golden = read_golden("dinov2_tiny")
    right, wrong = (convert(golden, out_indices=blocks) for blocks in ((0, 2), (1, 2)))
    original = golden.family.load_original(right.spec, right.source)
    run = run_original(golden.family, right.spec, original, InputCase("native", 70, 70))
    result = verify_input("native", run, load_converted(wrong))
    assert [point.point for point in result.points if point.verdict is Verdict.FAILED] == ["returned.feature.0"]


@pytest.mark.parametrize(("settings", "problem"), [
    ({"out_indices": (1, 0)},    "out_indices 1,0: not numbers of blocks, in order and each once"),
    ({"out_indices": (0, 3)},    "There are 3 blocks, counted from 0"),
    ({"out_indices": "first"},   "out_indices: 'first' is no whole number from 0 up"),
])  # fmt: skip
def test_what_names_no_block_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises((CheckpointError, VariantError), match=problem):
        convert(read_golden("dinov2_tiny"), **settings)


def test_a_classifier_is_no_feature_backbone() -> None:
    with pytest.raises(CheckpointError, match=r"(?s)A classifier returns logits.*--as backbone"):
        convert(read_golden("dinov2_tiny_1layer"), out_indices=(0,))


@pytest.mark.parametrize("named", [None, "dinov2_vits14"])
def test_how_outputs_are_returned_is_refused_where_nobody_says_which(named: str | None) -> None:
    with pytest.raises(VariantError) as refused:
        conversion.convert(meta("dinov2_vits14"), named, reshape_hidden_states="false", apply_layernorm=False)
    assert refused.value.headline == "--reshape-hidden-states, --apply-layernorm: of a feature backbone."
    assert refused.value.hint == "Give --as backbone, too; or leave this out."
    # a file may say which
    told = ToldStateDict(meta("dinov2_vits14"), {"out_indices": Told((3,), "config.json")})
    out = conversion.convert(told, named, apply_layernorm=False)
    assert (out.spec.out_indices, out.spec.apply_layernorm) == ((3,), False)


def test_an_official_model_keeps_its_name_whatever_it_returns() -> None:
    for named in (None, "dinov2_vits14"):
        out = conversion.convert(meta("dinov2_vits14"), named, out_indices=(2, 5, 8, 11))
        assert (out.variant, out.architecture) == ("dinov2_vits14", "Dinov2Backbone")
        assert out.spec.out_indices == (2, 5, 8, 11)
    assert VARIANTS["dinov2_vits14"].spec.get("out_indices") is None


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit status, and all that was written."""
    capsys.readouterr()  # what a test wrote before
    status = main(list(arguments))
    written = capsys.readouterr()
    return status, written.out + written.err


def test_the_command_makes_one_and_compares_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(read_golden("dinov2_tiny").recorded, "tiny.pth")
    told = list_options("dinov2_tiny")
    status, said = call(capsys, "convert", "tiny.pth", "--as", "backbone", *told, "-o", "features")
    assert status == 0, said
    assert "model = Dinov2Backbone.from_pretrained(" in said
    assert "out_indices" not in said  # that is no claim about the checkpoint
    path = tmp_path / "features" / "config.json"
    config = json.loads(path.read_text())
    assert config["out_indices"] == [3]
    with torch.inference_mode():
        (feature,) = load_model(tmp_path / "features")(torch.zeros(1, 3, 70, 70)).feature_maps
    assert feature.shape == (1, 32, 5, 5)
    # a folder is compared at what it returns, whatever that is
    for blocks in ([3], [2]):
        path.write_text(json.dumps({**config, "out_indices": blocks, "out_features": [f"stage{blocks[0]}"]}))
        status, said = call(capsys, "compare", "tiny.pth", "features", *told)
        assert status == 0, said
    assert call(capsys, "convert", "tiny.pth", "--out-indices", "last", *told, "-o", "last")[0] == 0
    assert json.loads((tmp_path / "last" / "config.json").read_text())["out_indices"] == [3]
    refused = ["convert", "tiny.pth", *told, "-o", "other"]
    status, said = call(capsys, *refused, "--as", "model", "--out-indices", "1")
    assert status != 0
    assert "--out-indices is of a feature backbone" in said
    assert "neither model nor backbone" in call(capsys, *refused, "--as", "head")[1]
    said = call(capsys, *refused, "--apply-layernorm", "false")[1]
    assert "--apply-layernorm: of a feature backbone" in said
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["beit_tiny_ft", "depth_anything_v2_tiny", "data2vec_vision_tiny_ade20k"])
def test_no_other_model_is_made_a_backbone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(dict(read_golden(name).state_dict), "tiny.pth")
    status, said = call(capsys, "convert", "tiny.pth", "--as", "backbone", *list_options(name), "-o", "features")
    assert status != 0
    assert "only a DINOv2 can be made a backbone" in said
    assert "Leave --as backbone out" in said


def test_a_backbones_folder_is_not_another_familys_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the folder's model returns is no setting of the other model: nobody asked for a backbone of that."""
    monkeypatch.chdir(tmp_path)
    conversion.save_artifact(convert(read_golden("dinov2_tiny"), out_indices=(0, 1)), Path("features"))
    torch.save(read_golden("dinov3_tiny").recorded, "other.pth")
    status, said = call(capsys, "compare", "other.pth", "features", *list_options("dinov3_tiny"))
    assert status == 1, said
    assert "model_type: 'dinov2', expected 'dinov3_vit'" in said
    assert said.rstrip().endswith("Not the same.")
