"""Names of transformers 5's memory: what ``model.state_dict()`` gives, beside what ``save_pretrained`` wrote."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import conversion
from conversion.artifact.differences import list_tensor_differences
from conversion.artifact.load import load_model
from conversion.artifact.weights import read_tensors
from conversion.families.target import transformers_major
from conversion.intake.checkpoint import read_checkpoint
from conversion.state_dicts.in_memory import name_as_in_files
from tests.support.checkpoint_files import same
from tests.support.golden import convert, read_golden

DINOV2 = ("dinov2_tiny", "dinov2_tiny_swiglu", "dinov2_tiny_reg", "dinov2_tiny_1layer")
OTHERS = ("data2vec_vision_tiny", "data2vec_vision_tiny_ft1k")


def list_in_memory(folder: Path) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in load_model(folder).state_dict().items()}


@pytest.mark.parametrize("name", [*DINOV2, *OTHERS])
def test_names_of_memory_become_those_of_the_file(name: str, tmp_path: Path) -> None:
    folder = conversion.save_artifact(convert(name), tmp_path / "model")
    in_memory = list_in_memory(folder)
    named, did = name_as_in_files(in_memory)
    assert same(named, read_tensors(folder))
    assert bool(did) == (name in DINOV2 and transformers_major() > 4)
    assert name_as_in_files(named) == (named, "")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("name", DINOV2)
def test_a_folder_with_names_of_memory_is_read_and_compared(name: str, file: str, tmp_path: Path) -> None:
    folder = conversion.save_artifact(convert(name), tmp_path / "model")
    other = tmp_path / "other"
    other.mkdir()
    save: Any = save_file if file.endswith(".safetensors") else torch.save
    save(list_in_memory(folder), other / file)
    shutil.copy(folder / "config.json", other)
    checkpoint = read_checkpoint(other)
    assert same(checkpoint.state_dict, read_golden(name).state_dict)
    said = "with the names of transformers 5's memory, given those of its files" in checkpoint.steps[-1].did
    assert said == (transformers_major() > 4)
    assert list_tensor_differences(convert(name), other) == []


@pytest.mark.parametrize("half", ["gate_proj", "up_proj"])
def test_half_of_a_gated_feed_forward_keeps_its_name(half: str) -> None:
    alone = {f"encoder.layer.0.mlp.{half}.weight": torch.ones(2, 2)}
    assert name_as_in_files(alone) == (alone, "")
