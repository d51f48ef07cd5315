"""Files beside a checkpoint tell what no tensor tells, and are another checkpoint's where tensors contradict them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import conversion
from conversion.errors import CheckpointError
from conversion.families.settings import AUTHORS, TIMM
from conversion.families.told import Told
from conversion.intake import beside
from conversion.intake.beside import read_training
from conversion.intake.checkpoint import read_checkpoint
from conversion.state_dicts.folder import CONFIG
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
    monkeypatch.setattr(beside, "LARGEST", 1)
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
    monkeypatch.setitem(beside.ARCHITECTURES, "vit_tiny", (32, 3, 2))  # type: ignore[arg-type]


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
    told = read_training(path, student).told
    assert {name: each.value for name, each in told.items()} == {"num_attention_heads": 2, "layer_norm_eps": eps}
    with pytest.raises(CheckpointError, match=r"normalize_coords is 'max'; transformers has .* 'separate' alone"):
        read_training(path, {**student, "pos_embed_rope_normalize_coords": "max"})


def test_a_configuration_of_another_training_tells_nothing(tmp_path: Path) -> None:
    assert read_checkpoint(leave_run(tmp_path)).state_dict.told == {}  # vit_tiny is none of the authors'
