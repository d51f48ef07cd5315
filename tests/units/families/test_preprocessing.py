"""From an image to the model's input: the artifact's image processor against the original's transform."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conversion.artifact.load import load_image_processor
from conversion.errors import CheckpointError
from conversion.families.base import Family, Spec, load_family
from conversion.families.beit_architecture.deviations import SQUARE_RESIZE
from conversion.families.deviations import CENTER_CROP
from conversion.families.target import transformers_major
from conversion.families.variants import VARIANTS
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.folder import PREPROCESSOR
from conversion.suite.inputs import open_photo

FAMILY = load_family("dinov2")
DATA2VEC = load_family("data2vec_vision")
SPEC = FAMILY.spec_of(VARIANTS["dinov2_vits14"])


def write_processor(directory: Path, family: Family[Any], spec: Spec, input_size: int) -> Path:
    (directory / PREPROCESSOR).write_text(json.dumps(family.images.build_image_processor(spec, input_size)))
    return directory


def process(directory: Path, image: Image.Image, **settings: object) -> torch.Tensor:
    return load_image_processor(directory)(image, return_tensors="pt", **settings)["pixel_values"][0]


@pytest.mark.parametrize("absent", ["image_mean", "image_std"])
def test_without_a_normalisation_no_image_is_prepared(absent: str) -> None:
    spec = replace(SPEC, **{absent: None})
    for prepare in (FAMILY.images.build_image_processor, FAMILY.images.build_transform):
        with pytest.raises(CheckpointError, match=r"how images are normalised\.\nGive .*--image-mean, --image-std"):
            prepare(spec, 224)


def test_the_official_values_are_written() -> None:
    processor = FAMILY.images.build_image_processor(SPEC, FAMILY.images.choose_input_size(SPEC))
    assert processor["size"] == {"shortest_edge": 256}
    assert processor["crop_size"] == {"height": 224, "width": 224}
    assert processor["resample"] == Image.Resampling.BICUBIC
    assert processor["image_mean"] == [0.485, 0.456, 0.406]
    assert processor["image_std"] == [0.229, 0.224, 0.225]


@pytest.mark.parametrize("crop_size", [224, 98, 392])
def test_the_photo_comes_out_bit_for_bit(crop_size: int, tmp_path: Path) -> None:
    expected = FAMILY.images.build_transform(SPEC, crop_size)(open_photo())
    actual = process(write_processor(tmp_path, FAMILY, SPEC, crop_size), open_photo())
    assert expected.shape == (3, crop_size, crop_size)
    assert is_bit_equal(expected, actual)


@settings(deadline=None, max_examples=25)
@given(st.integers(30, 400), st.integers(30, 400), st.integers(0, 2**32))
def test_images_of_any_size_come_out_bit_for_bit(width: int, height: int, seed: int) -> None:
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    image = Image.fromarray(pixels.numpy())
    with tempfile.TemporaryDirectory() as directory:
        actual = process(write_processor(Path(directory), FAMILY, SPEC, 56), image)
    deviation = FAMILY.find_image_deviation(SPEC, image.size, 56)
    assert is_bit_equal(FAMILY.images.build_transform(SPEC, 56)(image), actual) == (deviation is None)
    assert is_bit_equal(FAMILY.images.build_transform(SPEC, 56, as_processor=True)(image), actual)


def test_a_crop_off_by_a_pixel_is_a_known_deviation(tmp_path: Path) -> None:
    """The ledger's center-crop-rounding: at 518 the photo is left with 371 columns too many, 4n + 3."""
    actual = process(write_processor(tmp_path, FAMILY, SPEC, 518), open_photo())
    assert FAMILY.find_image_deviation(SPEC, open_photo().size, 518) is CENTER_CROP
    assert FAMILY.find_image_deviation(SPEC, open_photo().size, 224) is None
    original = FAMILY.images.build_transform(SPEC, 518)(open_photo())
    assert is_bit_equal(original[:, :, :-1], actual[:, :, 1:])  # shifted by one pixel
    assert is_bit_equal(FAMILY.images.build_transform(SPEC, 518, as_processor=True)(open_photo()), actual)


needs_transformers_5 = pytest.mark.skipif(
    transformers_major() < 5,
    reason="transformers 4 defaults to Pillow; this runs with transformers 5: tox -e transformers5-newest",
)


def load_default_processor(directory: Path) -> Any:
    import transformers

    return transformers.AutoImageProcessor.from_pretrained(directory, local_files_only=True)


@needs_transformers_5
@pytest.mark.parametrize(("name", "std"), [("dinov2_vits14", 0.224), ("data2vec_vision_base_ft1k", 0.5)])
def test_the_default_backend_of_transformers_5_is_a_known_deviation(name: str, std: float, tmp_path: Path) -> None:
    """The ledgers' image-processor-backend: one grey level here and there. When it is gone, take the entry out."""
    family = load_family(VARIANTS[name].family)
    spec = family.spec_of(VARIANTS[name])
    actual = load_default_processor(write_processor(tmp_path, family, spec, 224))(open_photo(), return_tensors="pt")
    expected = family.images.build_transform(spec, 224, as_processor=True)(open_photo())
    difference = (actual["pixel_values"][0] - expected).abs()
    share = float((difference > 1e-3).double().mean())
    assert 0.001 < share < 0.02
    assert difference.max() < 1.01 / 255 / std  # one grey level, in the channel of the smallest standard deviation


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("data2vec_vision_base_ft1k", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("data2vec_vision_base", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),  # as it was pretrained
    ],
)
def test_data2vec_visions_official_values_are_written(name: str, mean: list[float], std: list[float]) -> None:
    processor = DATA2VEC.images.build_image_processor(DATA2VEC.spec_of(VARIANTS[name]), 224)
    assert processor["image_processor_type"] == "BeitImageProcessor"
    assert processor["size"] == {"height": 224, "width": 224}
    assert processor["do_center_crop"] is False
    assert processor["resample"] == Image.Resampling.BICUBIC
    assert (processor["image_mean"], processor["image_std"]) == (mean, std)


def test_pretrained_models_are_normalised_as_they_were_trained_and_not_as_on_the_hub() -> None:
    """The ledger's pretraining-normalisation."""
    import transformers

    spec = DATA2VEC.spec_of(VARIANTS["data2vec_vision_base"])
    default = transformers.BeitImageProcessor()
    assert list(default.image_mean) == list(default.image_std) == [0.5] * 3, "gone: take it out of the ledger"
    as_on_the_hub = replace(spec, image_mean=tuple(default.image_mean), image_std=tuple(default.image_std))
    original, other = (DATA2VEC.images.build_transform(each, 224)(open_photo()) for each in (spec, as_on_the_hub))
    assert 0.2 < float((original - other).abs().mean()) < 0.4


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (500, 500), (224, 224), (31, 77)])
@pytest.mark.parametrize("name", ["data2vec_vision_base_ft1k", "data2vec_vision_base_ade20k"])
def test_a_resize_to_a_square_is_a_known_deviation(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """The ledger's square-resize: what is processed is the original transform with another resize, bit for bit."""
    spec = DATA2VEC.spec_of(VARIANTS[name])
    image, side = open_photo().resize(size), DATA2VEC.images.choose_input_size(spec)
    actual = process(write_processor(tmp_path, DATA2VEC, spec, side), image)
    transforms = [DATA2VEC.images.build_transform(spec, side, as_processor=flag) for flag in (False, True)]
    original, squared = (transform(image) for transform in transforms)
    assert original.shape == actual.shape == (3, side, side)
    assert is_bit_equal(squared, actual)
    deviation = DATA2VEC.find_image_deviation(spec, image.size, side)
    assert deviation is (None if side == 512 and size[0] == size[1] else SQUARE_RESIZE)
    assert is_bit_equal(original, actual) == (deviation is None), "gone: take it out of the ledger"


def test_a_bit_image_processor_does_what_data2vec_vision_does(tmp_path: Path) -> None:
    """The remedy of square-resize."""
    spec = DATA2VEC.spec_of(VARIANTS["data2vec_vision_base_ft1k"])
    directory = write_processor(tmp_path, FAMILY, SPEC, 224)
    processed = process(directory, open_photo(), image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert is_bit_equal(DATA2VEC.images.build_transform(spec, 224)(open_photo()), processed)
