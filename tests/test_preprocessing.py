"""From an image to the model's input: the artifact's image processor against the original's transform."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conversion.dinov2.deviations import CENTER_CROP
from conversion.family import load_family
from conversion.loading import PREPROCESSOR, load_image_processor
from conversion.parity.metrics import is_bit_equal
from conversion.variants import VARIANTS
from tests.inputs import open_photo

FAMILY = load_family("dinov2")
SPEC = FAMILY.spec_of(VARIANTS["dinov2_vits14"])
GREY_LEVEL = 1 / 255 / 0.225
"""One grey level after normalisation, in blue; in green, whose standard deviation is the smallest, a little more."""


def write_processor(directory: Path, crop_size: int) -> Path:
    (directory / PREPROCESSOR).write_text(json.dumps(FAMILY.build_image_processor(SPEC, crop_size)))
    return directory


def process(directory: Path, image: Image.Image) -> torch.Tensor:
    return load_image_processor(directory)(image, return_tensors="pt")["pixel_values"][0]


def test_the_official_values_are_written() -> None:
    processor = FAMILY.build_image_processor(SPEC, FAMILY.choose_input_size(SPEC))
    assert processor["size"] == {"shortest_edge": 256}
    assert processor["crop_size"] == {"height": 224, "width": 224}
    assert processor["resample"] == Image.Resampling.BICUBIC
    assert processor["image_mean"] == [0.485, 0.456, 0.406]
    assert processor["image_std"] == [0.229, 0.224, 0.225]


@pytest.mark.parametrize("crop_size", [224, 98, 392])
def test_the_photo_comes_out_bit_for_bit(crop_size: int, tmp_path: Path) -> None:
    expected = FAMILY.build_transform(SPEC, crop_size)(open_photo())
    actual = process(write_processor(tmp_path, crop_size), open_photo())
    assert expected.shape == (3, crop_size, crop_size)
    assert is_bit_equal(expected, actual)


@settings(deadline=None, max_examples=25)
@given(st.integers(30, 400), st.integers(30, 400), st.integers(0, 2**32))
def test_images_of_any_size_come_out_bit_for_bit(width: int, height: int, seed: int) -> None:
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    image = Image.fromarray(pixels.numpy())
    with tempfile.TemporaryDirectory() as directory:
        actual = process(write_processor(Path(directory), 56), image)
    deviation = FAMILY.find_image_deviation(SPEC, image.size, 56)
    assert is_bit_equal(FAMILY.build_transform(SPEC, 56)(image), actual) == (deviation is None)
    assert is_bit_equal(FAMILY.build_transform(SPEC, 56, as_processor=True)(image), actual)


def test_a_crop_off_by_a_pixel_is_a_known_deviation(tmp_path: Path) -> None:
    """The ledger's center-crop-rounding: at 518 the photo is left with 371 columns too many, 4n + 3."""
    actual = process(write_processor(tmp_path, 518), open_photo())
    assert FAMILY.find_image_deviation(SPEC, open_photo().size, 518) is CENTER_CROP
    assert FAMILY.find_image_deviation(SPEC, open_photo().size, 224) is None
    original = FAMILY.build_transform(SPEC, 518)(open_photo())
    assert is_bit_equal(original[:, :, :-1], actual[:, :, 1:])  # shifted by one pixel
    assert is_bit_equal(FAMILY.build_transform(SPEC, 518, as_processor=True)(open_photo()), actual)


@pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) < 5,
    reason="transformers 4 defaults to Pillow; this runs with transformers 5: tox -e tests",
)
def test_the_default_backend_of_transformers_5_is_a_known_deviation(tmp_path: Path) -> None:
    """The ledger's image-processor-backend: one grey level here and there. When it is gone, take the entry out."""
    processor = transformers.AutoImageProcessor.from_pretrained(write_processor(tmp_path, 224), local_files_only=True)
    actual = processor(open_photo(), return_tensors="pt")["pixel_values"][0]
    difference = (actual - FAMILY.build_transform(SPEC, 224)(open_photo())).abs()
    share = float((difference > GREY_LEVEL / 2).double().mean())
    assert 0.001 < share < 0.02
    assert difference.max() < 1.01 * GREY_LEVEL * 0.225 / 0.224
