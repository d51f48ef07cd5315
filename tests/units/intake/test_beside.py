"""Files beside a checkpoint tell what no tensor tells, and are another checkpoint's where tensors contradict them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import conversion
from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.families.settings import AUTHORS, TIMM
from conversion.families.told import Told, ToldStateDict
from conversion.families.variants import VARIANTS
from conversion.intake import beside, settings_file, training_config
from conversion.intake.beside import check_facts
from conversion.intake.checkpoint import read_checkpoint
from conversion.intake.training_config import ROPE_DTYPE, read_training
from conversion.state_dicts.folder import CONFIG
from conversion.state_dicts.recognise import recognise
from tests.support.golden import read_golden
from tests.support.timm_models import HEADS, PUBLIC, narrow, write

H_OPTIMUS = {"mean": (0.707223, 0.578729, 0.703617), "std": (0.211883, 0.230117, 0.177517)}


@pytest.mark.parametrize("name", PUBLIC)
def test_timms_folder_tells_what_its_model_has(name: str, tmp_path: Path) -> None:
    architecture, arguments = narrow(name)
    written = write(tmp_path, architecture, arguments)
    told = {setting: each.value for setting, each in written.checkpoint.state_dict.told.items()}
    assert written.checkpoint.state_dict.writer == TIMM
    assert told["num_attention_heads"] == 2
    assert told["layer_norm_eps"] == 1e-6
    assert told.get("hidden_act") == (None if name == "uni" else "silu")
    assert told["image_mean"] == tuple(written.model.pretrained_cfg["mean"])  # type: ignore[union-attr, index]
    assert told["input_size"] == arguments["img_size"]
    assert told.get("interpolate_antialias") is (True if arguments.get("dynamic_img_size") else None)
    assert written.checkpoint.timm is not None
    assert written.checkpoint.timm["architecture"] == architecture


def test_a_model_of_real_width_has_the_heads_that_timm_gives_it(tmp_path: Path) -> None:
    """1280 / 64 would be 20."""
    architecture, arguments = PUBLIC["virchow"]
    written = write(tmp_path, architecture, {**arguments, "depth": 1, "img_size": 42})
    out = conversion.convert(written.checkpoint.state_dict)
    assert out.config.num_attention_heads == HEADS["virchow"] == 16
    assert out.told["num_attention_heads"].by == f"{CONFIG}, {architecture}"


def test_of_a_gated_model_whose_config_cannot_name_its_layers_the_activation_is_told(tmp_path: Path) -> None:
    """As Virchow's on the Hub: classes have no place in JSON, so whoever loads it gives them.

    timm's gated feed-forward is gated by GELU unless another is given, and no tensor shows which.
    """
    written = write(tmp_path, *narrow("virchow"))
    config = json.loads((tmp_path / CONFIG).read_text())
    config["model_args"] = {k: v for k, v in config["model_args"].items() if k not in ("mlp_layer", "act_layer")}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    state_dict = conversion.load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="hidden_act: give --hidden-act as it was in training"):
        conversion.convert(state_dict)
    with pytest.raises(CheckpointError, match="'gelu'; only 'silu' is supported"):
        conversion.convert(state_dict, hidden_act="gelu")
    out = conversion.convert(state_dict, hidden_act="silu")
    assert out.config.num_attention_heads == 2
    assert out.spec == conversion.convert(written.checkpoint.state_dict).spec


def test_images_are_prepared_as_the_file_says(tmp_path: Path) -> None:
    write(tmp_path, *narrow("h-optimus-0"))
    config = json.loads((tmp_path / CONFIG).read_text())
    config["pretrained_cfg"] |= {**H_OPTIMUS, "crop_pct": 0.95, "interpolation": "bilinear"}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    processor = conversion.convert(conversion.load_checkpoint(tmp_path)).preprocessor
    assert processor["image_mean"] == list(H_OPTIMUS["mean"])
    assert processor["image_std"] == list(H_OPTIMUS["std"])
    assert processor["size"] == {"shortest_edge": 73}  # 70 / 0.95
    assert processor["resample"] == 2
    config["pretrained_cfg"]["crop_mode"] = "squash"
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"crop_mode: 'squash', only 'center'"):
        conversion.load_checkpoint(tmp_path)


def test_a_file_of_another_model_is_refused_with_what_differs(tmp_path: Path) -> None:
    write(tmp_path, *narrow("uni"))
    config = json.loads((tmp_path / CONFIG).read_text())
    config["model_args"]["depth"] = 3
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"(?s)another model.*depth: 3 in config\.json, 2 by the tensors.*move it away"
    ):
        conversion.load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (
            '{"architecture": "hf-hub:owner/name"}',
            r"/config\.json: 'hf-hub:owner/name' is not timm's own name of an architecture\.\nMove that file away, ",
        ),
        ('{"architecture": "no_such_model"}', r"cannot build no_such_model, which config\.json names"),
        (
            '{"architecture": "vit_tiny_patch16_224", "model_args": {"no_such": 1}}',
            r"(?s)cannot build.*\nMove that file away",
        ),
        ('{"architecture": "resnet18"}', "names timm's ResNet, which has no transformer blocks"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_error(content: str, says: str, tmp_path: Path) -> None:
    torch.save(read_golden("dinov2_tiny").backbone, tmp_path / "tiny.pth")
    (tmp_path / CONFIG).write_text(content)
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(tmp_path / "tiny.pth")


@pytest.mark.parametrize("content", ["{}", "[1, 2]", '{"lr": 1e-4}', '{"architecture": 3}'])
def test_a_config_of_something_else_tells_nothing(content: str, tmp_path: Path) -> None:
    torch.save(read_golden("dinov2_tiny").backbone, tmp_path / "tiny.pth")
    (tmp_path / CONFIG).write_text(content)
    read = read_checkpoint(tmp_path / "tiny.pth").state_dict
    assert (read.told, read.writer) == ({}, AUTHORS)


def test_a_config_as_large_as_a_model_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(read_golden("dinov2_tiny").backbone, tmp_path / "tiny.pth")
    (tmp_path / CONFIG).write_text("{}")
    monkeypatch.setattr(settings_file, "LARGEST", 1)
    with pytest.raises(CheckpointError, match="too many for a file of settings"):
        read_checkpoint(tmp_path / "tiny.pth")


# a training run of DINOv2


def leave_run(folder: Path, **student: Any) -> Path:
    """A training's output as its authors' code lays it out, with a small model in place of a teacher's."""
    golden, place = read_golden("dinov2_tiny"), folder / "eval" / "training_1249"
    place.mkdir(parents=True)
    torch.save({"teacher": {f"backbone.{key}": value for key, value in golden.backbone.items()}}, place / "teacher.pth")
    config = {"student": {"arch": "vit_tiny", "patch_size": 14, **student}, "crops": {"global_crops_size": 70}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return place / "teacher.pth"


@pytest.fixture
def tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training_config.ARCHITECTURES, "vit_tiny", (32, 3, 2))  # type: ignore[arg-type]


@pytest.mark.usefixtures("tiny_architecture")
@pytest.mark.parametrize(
    ("student", "offset", "antialias"),
    [
        ({}, 0.1, False),  # the authors' defaults
        ({"interpolate_offset": 0.0, "interpolate_antialias": True}, 0.0, True),
        ({"interpolate_offset": "${other.offset}"}, None, False),  # what is not resolved tells nothing
    ],
)
def test_a_training_run_tells_heads_and_resampling(
    student: dict[str, Any], offset: float | None, antialias: bool, tmp_path: Path
) -> None:
    out = conversion.convert(conversion.load_checkpoint(leave_run(tmp_path, **student)))
    assert out.told["num_attention_heads"] == Told(2, "config.yaml of the training run")
    assert (out.spec.interpolate_offset, out.spec.interpolate_antialias) == (offset, antialias)
    assert out.spec.any_size == (offset is not None)


@pytest.mark.usefixtures("tiny_architecture")
@pytest.mark.parametrize(("norm", "eps"), [("layernorm", 1e-6), ("layernormbf16", 1e-5)])
def test_a_training_run_of_dinov3_tells_its_epsilon_and_how_positions_are_scaled(
    norm: str, eps: float, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    student = {"arch": "vit_tiny", "pos_embed_type": "rope", "norm_layer": norm}
    told = read_training(path, {"student": student}).told
    assert {name: each.value for name, each in told.items()} == {"num_attention_heads": 2, "layer_norm_eps": eps}
    with pytest.raises(CheckpointError, match=r"normalize_coords is 'max'; transformers has .* 'separate' alone"):
        read_training(path, {"student": {**student, "pos_embed_rope_normalize_coords": "max"}})


@pytest.mark.parametrize("arch", ["vit_small", "vit_so400m", "vit_huge2", "vit_giant2", "vit_7b", "vit_large_memeff"])
def test_every_architecture_of_the_authors_is_read(arch: str, tmp_path: Path) -> None:
    student = {"arch": arch, "pos_embed_type": "rope", "pos_embed_rope_normalize_coords": "max"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"student": student}))
    with pytest.raises(CheckpointError, match="normalize_coords is 'max'"):
        beside.find_beside(tmp_path)


def test_a_training_run_of_dinov3_tells_how_its_images_are_normalised(tmp_path: Path) -> None:
    """Also of official shapes, whose official model has other images."""
    student = {"arch": "vit_small", "patch_size": 16, "pos_embed_type": "rope", "norm_layer": "layernormbf16"}
    crops = {"rgb_mean": [0.43, 0.411, 0.296], "rgb_std": [0.213, 0.156, 0.143]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"student": student, "crops": crops}))
    found, family = beside.find_beside(tmp_path), load_family("dinov3")
    assert found is not None
    tensors = family.original_tensors(family.spec_of(VARIANTS["dinov3_vits16"]))
    spec = recognise(ToldStateDict(tensors, found.told)).spec
    assert (spec.image_mean, spec.image_std) == ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143))


@pytest.mark.parametrize("values", [None, "${x}", [0.5], ["a", "b", "c"]])
def test_what_is_no_normalisation_tells_none(values: object) -> None:
    config = {"student": {"arch": "vit_small", "pos_embed_type": "rope"}, "crops": {"rgb_mean": values}}
    assert read_training(Path("config.yaml"), config).told.keys() == {"num_attention_heads"}


@pytest.mark.parametrize("layer", ["swiglu", "swiglu64"])
def test_a_gated_dinov3_is_the_model_of_its_configuration(layer: str) -> None:
    family = load_family("dinov3")
    tensors = family.original_tensors(family.spec_of(VARIANTS["dinov3_vits16plus"]))
    student = {"arch": "vit_small", "patch_size": 16, "n_storage_tokens": 4, "pos_embed_type": "rope"}
    check_facts(read_training(Path("config.yaml"), {"student": {**student, "ffn_layer": layer}}), tensors)
    with pytest.raises(CheckpointError, match=r"feed-forward: 'plain' in config\.yaml|plain in config\.yaml"):
        check_facts(read_training(Path("config.yaml"), {"student": {**student, "ffn_layer": "mlp"}}), tensors)


@pytest.mark.parametrize("arch", [{"name": "vit"}, ["vit_small"], 3, None])
def test_a_configuration_of_another_form_tells_nothing(arch: object, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"student": {"arch": arch}}))
    assert beside.find_beside(tmp_path) is None


@pytest.mark.parametrize(
    "others",
    [{"input_size": 224}, {"mean": 0.5}, {"model_args": ["img_size"]}, {"pretrained_cfg": "a text"}],
    ids=lambda others: next(iter(others)),
)
def test_settings_that_timm_does_not_write_are_an_error(others: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"architecture": "vit_tiny_patch16_224", **others}))
    with pytest.raises(CheckpointError, match=r"config\.json: holds what timm does not write|cannot build"):
        beside.find_beside(tmp_path)


def test_an_architecture_that_is_none_of_the_authors_is_refused(tmp_path: Path) -> None:
    """An official model of the same shapes would tell heads and resampling, and the file be overlooked."""
    path = leave_run(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"config\.yaml: student\.arch is 'vit_tiny', not an architecture"
    ) as error:
        read_checkpoint(path)
    assert "vit_small, vit_base" in error.value.hint
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"student": {"arch": "resnet50", "pretrained": True}}))
    assert read_checkpoint(path).state_dict.told == {}  # of another kind of training


@pytest.mark.parametrize(
    ("dtype", "is_said"), [({}, False), ({ROPE_DTYPE: "fp32"}, False), ({ROPE_DTYPE: "bf16"}, True)]
)
def test_it_is_said_that_a_training_computed_angles_in_another_dtype(
    dtype: dict[str, str], is_said: bool, tmp_path: Path
) -> None:
    student = {"arch": "vit_small", "pos_embed_type": "rope", **dtype}
    did = read_training(tmp_path / "config.yaml", {"student": student}).did
    assert ("pos_embed_rope_dtype 'bf16'; here angles are computed in float32" in did) == is_said
