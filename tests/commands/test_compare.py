"""``vision-parity compare``: a folder that is the checkpoint is called the same; what differs in others is named."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import conversion
from conversion.artifact.weights import WEIGHTS
from conversion.cli.app import main
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR
from tests.support.golden import list_options, read_golden

BLOCK = "encoder.layer.1.attention.attention."
POSITIONS = "embeddings.position_embeddings"
BAKED = 56
"""Pixels; the tiny models' native size is another."""

SEGMENTATION = "data2vec_vision_tiny_ade20k"


def make(here: Path, name: str) -> tuple[Path, Path]:
    """The recorded checkpoint of a model, and its conversion."""
    golden = read_golden(name)
    torch.save(golden.recorded, here / "original.pth")
    out = conversion.convert(golden.state_dict, **golden.overrides)
    return here / "original.pth", conversion.save_artifact(out, here / "target")


def compare(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()  # what making them has written
    status = main(["compare", str(here / "original.pth"), str(here / "target"), *list_options(name)])
    captured = capsys.readouterr()
    return status, " ".join((captured.out + captured.err).split())


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_json(folder: Path, file: str, **changes: object) -> None:
    content: dict[str, Any] = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | changes))


def exchange(left: str, right: str) -> Callable[[Path], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[left], tensors[right] = tensors[right], tensors[left]

    return lambda folder: change_tensors(folder, change)


def apply(key: str, function: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[key] = function(tensors[key]).contiguous()

    return lambda folder: change_tensors(folder, change)


def halve(tensors: dict[str, Tensor]) -> None:
    tensors.update({key: tensor.half() for key, tensor in tensors.items()})


def in_config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: change_json(folder, CONFIG, **changes)


def drop(key: str) -> Callable[[Path], None]:
    return lambda folder: change_tensors(folder, lambda tensors: tensors.pop(key))


def add(key: str) -> Callable[[Path], None]:
    return lambda folder: change_tensors(folder, lambda tensors: tensors.update({key: torch.ones(3)}))


def shift(tensor: Tensor) -> Tensor:
    return tensor + torch.eye(len(tensor))[0] * 1e-3


QUERY, KEY, VALUE = (f"{BLOCK}{name}.weight" for name in ("query", "key", "value"))
NORM = "encoder.layer.{}.norm1.weight"

# what is planted, and how it is named
PLANTED: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "q and k exchanged": (
        exchange(QUERY, KEY),
        (rf"{QUERY}, from blocks.1.attn.qkv.weight: off by up to [\d.]+; it is that of {KEY}", "first at block.1.q"),
    ),
    "another eps": (
        in_config(layer_norm_eps=1e-12),
        ("layer_norm_eps: 1e-12, expected 1e-06", r"explained by .*eps"),
    ),
    "float16": (
        lambda folder: change_tensors(folder, halve),
        (r"61 of 61 tensors are float16, the original's float32: rounded by up to [\d.e-]+",),
    ),
    "no mask token": (
        drop("embeddings.mask_token"),
        ("missing: embeddings.mask_token, from mask_token", "Activations not compared: "),
    ),
    "a bias of zeros": (
        apply(f"{BLOCK}key.bias", torch.zeros_like),
        ("key.bias, from blocks.1.attn.qkv.bias: .* it is all zeros",),
    ),
    "heads in another order": (
        apply(QUERY, lambda tensor: tensor.roll(16, 0)),
        ("query.weight, .* the same values in another order",),
    ),
    "a kernel transposed": (apply(VALUE, torch.t), ("value.weight, .* it is transposed",)),
    "a tensor of another block": (
        exchange(NORM.format(0), NORM.format(2)),
        (f"{NORM.format(0)}, from blocks.0.norm1.weight: .* it is that of {NORM.format(2)}",),
    ),
    "half of a bias": (
        apply("layernorm.bias", lambda tensor: tensor[:16].clone()),
        (r"layernorm.bias, from norm.bias: \(16,\), the original gives \(32,\)", "Activations not compared: "),
    ),
    "another mean": (
        lambda folder: change_json(folder, PREPROCESSOR, image_mean=[0.5, 0.5, 0.5]),
        (r"image_mean: \[0.5, 0.5, 0.5\], expected \[0.485",),
    ),
    "a tensor too many": (add("head"), ("foreign: head, which the original has nothing for",)),
    "twice the heads": (in_config(num_attention_heads=4), ("num_attention_heads: 4, expected 2",)),
    "no such activation": (
        in_config(hidden_act="moon"),
        ("hidden_act: 'moon', expected 'gelu'", "Activations not compared: .*is not what from_pretrained loads"),
    ),
    "one number": (
        apply("layernorm.bias", shift),
        ("layernorm.bias, from norm.bias: off by up to 0.001", "first at norm"),
    ),
}


@pytest.mark.parametrize("name", ["dinov2_tiny", "dinov2_tiny_reg", "data2vec_vision_tiny", SEGMENTATION])
def test_a_folder_that_is_the_checkpoint_is_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, name)
    status, output = compare(tmp_path, name, capsys)
    assert status == 0, output
    assert output.count("nothing differs") == 2
    assert re.search(r"exact with (sdpa|eager): every bit agrees", output)
    assert re.search(r"The same model\. This holds if .* right: you said so, and no tensor shows (it|them)\.$", output)


@pytest.mark.parametrize("planted", PLANTED)
def test_what_differs_is_named(planted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant, named = PLANTED[planted]
    _, folder = make(tmp_path, "dinov2_tiny")
    plant(folder)
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 1, output
    assert [each for each in named if not re.search(each, output)] == [], output
    assert output.endswith("Not the same: its weights are rounded." if planted == "float16" else "Not the same.")


def test_a_model_that_does_not_run_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not go together")

    make(tmp_path, "dinov2_tiny")
    monkeypatch.setattr("conversion.cli.comparing.verify_cell", fail)
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 1, output
    assert "not compared: " in output
    assert "shapes do not go together" in output
    assert "The same model" not in output


def test_the_command_that_is_proposed_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = make(tmp_path, "dinov2_tiny")
    in_config(layer_norm_eps=1e-5)(folder)
    assert main(["compare", str(tmp_path / "original.pth"), str(folder), *list_options("dinov2_tiny")]) == 1
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  vision-parity convert ")]
    assert main([*shlex.split(command)[1:], "-o", str(tmp_path / "again")]) == 0


def test_indices_of_the_original_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the official converter writes them: transformers counts from the embeddings."""
    _, folder = make(tmp_path, SEGMENTATION)
    config = json.loads((folder / CONFIG).read_text())
    change_json(folder, CONFIG, out_indices=[index - 1 for index in config["out_indices"]])
    status, output = compare(tmp_path, SEGMENTATION, capsys)
    assert status == 1
    assert "out_indices: " in output
    assert output.endswith("Not the same.")


def test_a_folder_baked_for_another_size_is_compared_at_that_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = read_golden("dinov2_tiny")
    torch.save(golden.recorded, tmp_path / "original.pth")
    out = conversion.convert(golden.state_dict, **golden.overrides, image_size=BAKED)
    folder = conversion.save_artifact(out, tmp_path / "target")
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 0, output
    assert f"The same model at {BAKED} x {BAKED} pixels" in output
    change_tensors(folder, lambda tensors: tensors.update({POSITIONS: tensors[POSITIONS] * 1.001}))
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 1
    assert f"{POSITIONS}, from pos_embed: off by up to" in output


def test_a_size_that_config_alone_claims_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = make(tmp_path, "dinov2_tiny")
    native = json.loads((folder / CONFIG).read_text())["image_size"]
    change_json(folder, CONFIG, image_size=BAKED)
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 1
    assert f"image_size: {BAKED}, expected {native}" in output


def test_values_of_a_narrower_dtype_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = make(tmp_path, "dinov2_tiny")
    change_tensors(folder, lambda tensors: tensors.update({key: each.half().float() for key, each in tensors.items()}))
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 1
    assert re.search(r"Tensors \d+ of \d+ tensors are float32 with values of float16: rounded by up to \S+ S", output)


def test_without_an_image_processor_the_photo_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = make(tmp_path, "dinov2_tiny")
    (folder / PREPROCESSOR).unlink()
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 0
    assert f"photo: not compared, since there is no {PREPROCESSOR}" in output


def test_another_normalisation_is_not_called_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = make(tmp_path, "dinov2_tiny")
    change_json(folder, PREPROCESSOR, image_mean=[0.4, 0.4, 0.4])
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 1
    assert re.search(r"failed with sdpa: it computes something else on photo [^,]", output), output
    assert "fed by the input alone: of the photo, what the image processor makes of it" in output


def test_a_file_is_no_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = make(tmp_path, "dinov2_tiny")
    assert main(["compare", str(tmp_path / "original.pth"), str(folder / WEIGHTS), *list_options("dinov2_tiny")]) == 2
    assert f"is a file, and no folder of a converted model. Give the folder that it lies in: {folder}" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_a_killed_conversion_left_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be compared in place of what from_pretrained loads."""
    _, folder = make(tmp_path, "dinov2_tiny")
    (folder / "model.unverified.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    status, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert status == 2
    assert "model.unverified.safetensors: from_pretrained does not read it" in output


def test_whose_word_is_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "dinov2_tiny")
    _, output = compare(tmp_path, "dinov2_tiny", capsys)
    assert re.search(r"Taken for granted [^:]*num_attention_heads \d[^:]*: told by you", output), output


@pytest.mark.parametrize(
    ("target", "message"),
    [("absent", "no such folder"), (".", "not what from_pretrained reads: there is no config.json")],
)
def test_what_cannot_be_compared_is_said(
    target: str, message: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    assert main(["compare", "tiny.pth", target, *list_options("dinov2_tiny")]) == 2
    assert message in capsys.readouterr().err


def test_nothing_is_said_of_sizes_whose_resampling_nobody_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's image processor makes 224 pixels; the native size alone is compared, and is the same."""
    make(tmp_path, "dinov2_tiny")
    heads = [option for option in list_options("dinov2_tiny") if "heads" in option]
    status = main(["compare", str(tmp_path / "original.pth"), str(tmp_path / "target"), *heads])
    output = capsys.readouterr().out
    assert status == 0, output
    assert "exact with sdpa" in output
    assert "position-embeddings-offset" not in output
