"""What a file holds beside its tensors tells: lightly-train's model and images, mmsegmentation's class names."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import conversion
from conversion.errors import CheckpointError
from conversion.intake import training_config
from conversion.intake.beside import merge_beside
from conversion.intake.checkpoint import read_checkpoint
from conversion.intake.facts import Fact
from conversion.intake.settings_file import Beside
from tests.support.golden import read_golden

PREFIX = "teacher_embedding_model.wrapped_model._model"


def write(path: Path, **changes: Any) -> Path:
    """Write what lightly-train 0.18.0 does: Lightning's checkpoint, with a section for its pickled model and images."""
    state_dict = read_golden("dinov2_tiny_reg").backbone
    width = state_dict["cls_token"].shape[-1]
    registers = state_dict["register_tokens"].shape[1]
    model = LightlyTrainModel(width)
    patch = state_dict["patch_embed.proj.weight"].shape[-1]
    values = {"num_heads": 2, "n_blocks": 3, "embed_dim": width, "patch_size": patch, "num_register_tokens": registers}
    vars(model).update(values | {"interpolate_offset": 0.1, "interpolate_antialias": False} | changes)
    content = {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {f"{PREFIX}.{key}": value for key, value in state_dict.items()},
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "lightly_train": {
            "version": "0.18.0",
            "date": "2026-11-26T15:38:29.507554+00:00",
            "models": {
                "model": model,
                "wrapped_model": nn.Sequential(model),
                "embedding_model": nn.Sequential(nn.Sequential(model)),
            },
            "normalize_args": {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]},
            "license_info": "",
        },
    }
    torch.save(content, path)
    return path


class LightlyTrainModel(nn.Module):
    """In the place of lightly-train's own class: what it is made of is kept as attributes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)


def test_the_pickled_model_tells_what_tensors_do_not(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "last.ckpt"), entry=PREFIX)
    out = conversion.convert(checkpoint.state_dict)
    assert checkpoint.known == {
        "num_attention_heads": 2,
        "interpolate_offset": 0.1,
        "interpolate_antialias": False,
        "layer_norm_eps": 1e-6,
        "image_mean": (0.4, 0.5, 0.6),
        "image_std": (0.1, 0.2, 0.3),
    }
    assert out.told["num_attention_heads"].by == "last.ckpt, written by lightly-train"
    assert out.preprocessor["image_mean"] == [0.4, 0.5, 0.6]
    assert not out.spec.interpolate_antialias


def test_a_pickled_model_of_other_widths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"(?s)last.ckpt describes another model.*depth: 4 in last.ckpt, 3 by"):
        read_checkpoint(write(tmp_path / "last.ckpt", n_blocks=4), entry=PREFIX)


def test_a_file_beside_it_that_says_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training_config.ARCHITECTURES, "vit_tiny", (32, 3, 2))
    student = {"arch": "vit_tiny", "patch_size": 14, "num_register_tokens": 4, "interpolate_antialias": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"student": student}))
    with pytest.raises(CheckpointError, match=r"interpolate_antialias: .*lightly-train says false, config.yaml.* true"):
        read_checkpoint(write(tmp_path / "last.ckpt"), entry=PREFIX)


CLASSES = ("wall", "building", "sky", "floor")
PALETTE = [[120, 120, 120], [180, 120, 120], [6, 230, 230], [80, 50, 50]]
METAS: dict[str, dict[str, Any]] = {
    "mmsegmentation before 1.0": {"CLASSES": CLASSES, "PALETTE": PALETTE, "epoch": 3, "mmseg_version": "0.11.0"},
    "mmengine": {"dataset_meta": {"classes": CLASSES, "palette": PALETTE, "reduce_zero_label": True}, "seed": 0},
}


@pytest.mark.parametrize("writer", METAS)
def test_the_class_names_of_the_dataset_are_the_models(writer: str, tmp_path: Path) -> None:
    golden = read_golden("data2vec_vision_tiny_ade20k")
    names = tuple(f"class {index}" for index in range(golden.spec.num_classes))
    meta = json.loads(json.dumps(METAS[writer]).replace(json.dumps(CLASSES), json.dumps(names)))
    torch.save({"state_dict": golden.recorded, "meta": meta}, tmp_path / "iter_160000.pth")
    checkpoint = read_checkpoint(tmp_path / "iter_160000.pth")
    out = conversion.convert(checkpoint.state_dict, **golden.overrides)
    assert out.labels == names
    assert out.config.id2label[1] == "class 1"
    told = next(step.did for step in checkpoint.steps if step.name == "tell")
    assert told == "iter_160000.pth tells the class names; left out, no place for it: palette"
    given = conversion.convert(checkpoint.state_dict, labels=names[::-1], **golden.overrides)
    assert given.labels == names[::-1]


@pytest.mark.parametrize("writer", METAS)
def test_names_of_other_classes_are_left_out_with_a_note(writer: str, tmp_path: Path) -> None:
    golden = read_golden("data2vec_vision_tiny_ade20k")
    torch.save({"state_dict": golden.recorded, "meta": METAS[writer]}, tmp_path / "iter_160000.pth")
    out = conversion.convert(conversion.load_checkpoint(tmp_path / "iter_160000.pth"), **golden.overrides)
    assert out.labels[0] == "LABEL_0"
    count = golden.spec.num_classes
    assert f"the file names 4 classes, the model has {count}: its names are left out" in out.notes


def test_other_class_names_beside_the_file_are_refused(tmp_path: Path) -> None:
    own = Beside(tmp_path / "last.pth", labels=("a", "b"), is_itself=True)
    beside_it = Beside(tmp_path / "config.json", labels=("b", "a"))
    with pytest.raises(CheckpointError, match=r"class names: those in last.pth are not those in config.json"):
        merge_beside([own, beside_it])
    merged = merge_beside([own, replace(beside_it, labels=None)])
    assert merged is not None
    assert merged.labels == ("a", "b")


def test_facts_of_both_sources_are_kept(tmp_path: Path) -> None:
    own = Beside(tmp_path / "last.pth", facts={"depth": Fact(12, "depth")}, is_itself=True)
    merged = merge_beside([own, Beside(tmp_path / "config.json", facts={"embed_dim": Fact(384, "width")})])
    assert merged is not None
    assert merged.facts.keys() == {"depth", "embed_dim"}


@pytest.mark.parametrize("meta", [3, {}, {"CLASSES": None}, {"CLASSES": [1]}, {"dataset_meta": 3}, {"CLASSES": ()}])
def test_a_meta_of_another_form_tells_nothing(meta: object, tmp_path: Path) -> None:
    torch.save({"state_dict": read_golden("dinov2_tiny").backbone, "meta": meta}, tmp_path / "last.pth")
    checkpoint = read_checkpoint(tmp_path / "last.pth")
    assert checkpoint.state_dict.labels is None
    assert "tell" not in {step.name for step in checkpoint.steps}


@pytest.mark.parametrize("section", [None, 3, {}, {"models": 3, "normalize_args": 3}, {"models": {"model": {}}}])
def test_a_section_of_another_form_tells_nothing(section: object, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": read_golden("dinov2_tiny").backbone, "lightly_train": section}, path)
    assert read_checkpoint(path).known == {}
