"""What ``vision-parity compare`` says of class names, and of files that lie beside a model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import conversion
from conversion.cli.app import main
from conversion.intake.checkpoint import read_checkpoint
from conversion.state_dicts.convert import UNNAMED
from conversion.state_dicts.folder import CONFIG, LEFT_OUT, PREPROCESSOR
from tests.support.golden import list_options, read_golden

SEGMENTATION = "data2vec_vision_tiny_ade20k"
NAMES = ("wall", "building", "sky", "floor", "tree", "ceiling")
NOT_COMPARED = "class names were not compared: the checkpoint does not tell them"


def write(here: Path, name: str, labels: tuple[str, ...] | None = None, **beside: object) -> tuple[Path, Path]:
    """The recorded checkpoint of a model, and its conversion."""
    golden = read_golden(name)
    torch.save({"state_dict": golden.recorded, **beside}, here / "original.pth")
    out = conversion.convert(golden.state_dict, labels=labels, **golden.overrides)
    return here / "original.pth", conversion.save_artifact(out, here / "target")


def compare(original: Path, target: Path, name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()  # what making them has written
    status = main(["compare", str(original), str(target), *list_options(name)])
    captured = capsys.readouterr()
    return status, " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize("is_reversed", [False, True])
def test_class_names_that_the_checkpoint_tells_are_compared(
    is_reversed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(reversed(NAMES)) if is_reversed else NAMES
    status, said = compare(*write(tmp_path, SEGMENTATION, names, meta={"CLASSES": NAMES}), SEGMENTATION, capsys)
    assert status == int(is_reversed), said
    assert ("config.json: id2label: class 0 is 'ceiling', not 'wall'" in said) == is_reversed
    assert NOT_COMPARED not in said


@pytest.mark.parametrize(("name", "has_classes"), [(SEGMENTATION, True), ("dinov2_tiny", False)])
def test_it_is_said_that_names_nobody_tells_are_not_compared(
    name: str, has_classes: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = compare(*write(tmp_path, name, NAMES if has_classes else None), name, capsys)
    assert status == 0, said
    assert (NOT_COMPARED in said) == has_classes


def test_class_names_of_a_folder_are_kept_and_the_librarys_own_are_none(tmp_path: Path) -> None:
    golden = read_golden(SEGMENTATION)
    for labels in (NAMES, None):
        out = conversion.convert(golden.state_dict, labels=labels, **golden.overrides)
        folder = conversion.save_artifact(out, tmp_path / f"{labels is None}")
        assert read_checkpoint(folder).state_dict.labels == labels


def test_imagenets_names_are_noted_where_nobody_told_them() -> None:
    golden = read_golden("dinov2_tiny_1layer")
    rows = golden.state_dict["linear_head.weight"].shape[0]
    wide = {key: each.repeat(1000 // rows, *[1] * (each.ndim - 1)) if "linear_head" in key else each
            for key, each in golden.state_dict.items()}  # fmt: skip
    assert UNNAMED in conversion.convert(wide, **golden.overrides).notes
    names = [str(index) for index in range(1000)]
    assert UNNAMED not in conversion.convert(wide, labels=names, **golden.overrides).notes


def test_what_is_kept_beside_a_model_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original, target = write(tmp_path, "dinov3_tiny")
    assert compare(original, target, "dinov3_tiny", capsys)[0] == 0
    kept = load_file(target / LEFT_OUT)
    key = "rope_embed.periods"
    for tensors, line in (
        ({**kept, key: kept[key].flip(0)}, f"{LEFT_OUT}: {key} is not the original's"),
        ({name: tensor for name, tensor in kept.items() if name != key}, f"missing in {LEFT_OUT}: {key}"),
    ):
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, target / LEFT_OUT)
        status, said = compare(original, target, "dinov3_tiny", capsys)
        assert status == 1
        assert line in said


def test_it_is_said_that_an_image_processor_of_other_images_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = read_golden("dinov2_tiny")
    grey = {key: each[:, :1].clone() if key == "patch_embed.proj.weight" else each
            for key, each in golden.backbone.items()}  # fmt: skip
    torch.save(grey, tmp_path / "original.pth")
    target = conversion.save_artifact(conversion.convert(grey, **golden.overrides), tmp_path / "target")
    (target / PREPROCESSOR).write_text(json.dumps({"image_processor_type": "BitImageProcessor", "rescale_factor": 0.5}))
    status, said = compare(tmp_path / "original.pth", target, "dinov2_tiny", capsys)
    assert (target / CONFIG).exists()
    assert status == 0, said
    assert f"{PREPROCESSOR}: not compared, since nothing tells how images are made that are not RGB" in said
