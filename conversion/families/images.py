"""What families share of image processing: constants, and settings that no tensor tells."""

import math
from typing import TYPE_CHECKING, Any

from conversion.families.shapes import parse_choice, parse_integer, parse_positive
from conversion.families.told import AUTHORS, Setting
from conversion.mapping.key_map import Shapes

if TYPE_CHECKING:
    from torchvision.transforms import Resize

Channels = tuple[float, float, float]

RGB = 3
"""Channels of the images that image processors are made for."""

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)

BICUBIC = 3
"""Pillow's number for bicubic, as image processors write it."""

RESAMPLING = {"bicubic": BICUBIC, "bilinear": 2, "lanczos": 1, "nearest": 0}
"""Name of an interpolation to Pillow's number."""


def build_resize(size: int | tuple[int, int], interpolation: str) -> "Resize":
    """Build torchvision's resize to this short edge, or to this height and width."""
    from torchvision.transforms import InterpolationMode, Resize

    return Resize(size, InterpolationMode(interpolation))


def find_short_edge(crop_size: int, crop_pct: float) -> int:
    """Compute the short edge in pixels before the crop, rounded down as timm does."""
    return math.floor(crop_size / crop_pct)


def parse_mean(value: Any) -> Channels:
    """Parse the means of red, green and blue, from 0 to 1, given as numbers or as text with commas."""
    red, green, blue = map(float, _split(value))
    if not all(0 <= each <= 1 for each in (red, green, blue)):
        raise ValueError(f"{value!r}: means of red, green and blue lie between 0 and 1")
    return red, green, blue


def parse_std(value: Any) -> Channels:
    """Parse the standard deviations of red, green and blue, given as numbers or as text with commas."""
    red, green, blue = map(parse_positive, _split(value))
    return red, green, blue


def _split(value: Any) -> list[Any]:
    """Split into three numbers, or the texts of three."""
    parts = list(value.split(",") if isinstance(value, str) else value)
    if len(parts) != len(IMAGENET_MEAN):
        raise ValueError(f"{value!r} is not three numbers, as 0.485,0.456,0.406")
    return parts


def parse_crop_pct(value: Any) -> float:
    """Parse the share of the short edge that the crop keeps."""
    share = parse_positive(value)
    if share > 1:
        raise ValueError(f"{value!r} is more than the whole image")
    return share


def find_channels(shapes: Shapes, weight: str, embed_dim: int | None) -> int:
    """Read the input channels off the patch embedding ``(D, channels, patch, patch)``; RGB's if it is misshapen."""
    shape = shapes.get(weight, ())
    return shape[1] if len(shape) == 4 and shape[0] == embed_dim else RGB


def list_unused(num_channels: int) -> frozenset[str]:
    """List the settings of images that are of no use to a model of so many channels: it gets no image processor."""
    return frozenset() if num_channels == RGB else frozenset({*NORMALISATION_SETTINGS, *CROP_SETTINGS})


def note_channels(num_channels: int) -> tuple[str, ...]:
    """Note what a user must know of a model whose images are not RGB."""
    if num_channels == RGB:
        return ()
    channels = f"{num_channels} channel{'' if num_channels == 1 else 's'}"
    return (
        f"its images have {channels}: no preprocessor_config.json is written, since transformers' image processors are "
        "made for RGB. Prepare images as in training; the model itself is compared on noise of that many channels",
    )


OF_AUTHORS = frozenset({AUTHORS})

NORMALISATION_SETTINGS = {
    "image_mean": Setting("image_mean", parse_mean, "mean of the images, as 0.485,0.456,0.406", fixed_by=OF_AUTHORS),
    "image_std": Setting("image_std", parse_std, "standard deviation, as 0.229,0.224,0.225", fixed_by=OF_AUTHORS),
}

CROP_SETTINGS = {
    "crop_pct": Setting(
        "crop_pct", parse_crop_pct, "share of the short edge that the centre crop keeps, as 0.875", fixed_by=OF_AUTHORS
    ),
    "interpolation": Setting(
        "interpolation", parse_choice(*RESAMPLING), f"of images: {', '.join(RESAMPLING)}", fixed_by=OF_AUTHORS
    ),
    "input_size": Setting(
        "input_size", parse_integer, "side of the images that the image processor makes, in pixels", is_needed=False
    ),
}
