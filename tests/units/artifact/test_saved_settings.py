"""What the library saves of a right model raises no alarm."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.artifact.settings import find_config_problems, find_processor_problems, list_sizes
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD
from conversion.families.target import transformers_major
from conversion.state_dicts.folder import read_config
from conversion.state_dicts.restore import find_family

Fields = Mapping[str, Any]

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DINOV2 = {**SMALL, "image_size": 70, "patch_size": 14}
DATA2VEC = {**SMALL, "image_size": 64, "patch_size": 16, "intermediate_size": 64}
PRETRAINED = {"use_mask_token": True, "use_mean_pooling": False, "use_shared_relative_position_bias": True}
OFFICIAL_EPS = "layer_norm_eps: 1e-12, expected 1e-06; known deviation 'layer-norm-eps-default'"

# class, its config, dtype, and what is found
SAVED: list[tuple[str, str, Fields, str, list[str]]] = [
    ("Dinov2Model", "Dinov2Config", DINOV2, "float32", []),
    ("Dinov2Model", "Dinov2Config", {**DINOV2, "use_swiglu_ffn": True}, "bfloat16", []),
    ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", DINOV2, "float32", []),
    ("Dinov2ForImageClassification", "Dinov2Config", {**DINOV2, "num_labels": 7}, "float32", []),
    ("Dinov2ForImageClassification", "Dinov2Config", DINOV2, "float16", []),
    ("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", DINOV2, "float32", []),
    ("Data2VecVisionModel", "Data2VecVisionConfig", {**DATA2VEC, **PRETRAINED}, "float32", [OFFICIAL_EPS]),
    (
        "Data2VecVisionForImageClassification",
        "Data2VecVisionConfig",
        {**DATA2VEC, "use_relative_position_bias": True, "num_labels": 5, "layer_norm_eps": 1e-6},
        "float32",
        [],
    ),
]


@pytest.mark.parametrize(("name", "config", "fields", "dtype", "said"), SAVED)
def test_what_the_library_saves_of_a_right_model_raises_no_alarm(
    name: str, config: str, fields: Fields, dtype: str, said: list[str], tmp_path: Path
) -> None:
    import transformers

    model = getattr(transformers, name)(getattr(transformers, config)(**fields))
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path)
    save_processor(tmp_path, "dinov2" in config.lower())
    family = find_family(read_config(tmp_path))
    told = {"layer_norm_eps": 1e-6, "image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
    told = {} if "Dinov2" in name else told
    spec = replace(family.read_config(read_config(tmp_path)), **told)
    problems = list(find_config_problems(tmp_path, family, spec))
    assert [problem.partition(": the config's")[0] for problem in problems] == said
    assert list(find_processor_problems(tmp_path, family, spec, list_sizes(family, spec))) == []


def save_processor(folder: Path, is_dinov2: bool) -> None:
    import transformers

    plain = "Pil" if transformers_major() >= 5 else ""
    sizes: dict[str, Any] = {"size": {"height": 64, "width": 64}, "do_center_crop": False}
    if is_dinov2:
        sizes = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}
        sizes |= {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    name = f"{'Bit' if is_dinov2 else 'Beit'}ImageProcessor{plain}"
    getattr(transformers, name)(**sizes).save_pretrained(folder)
