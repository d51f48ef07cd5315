"""What families share of image processing: constants, resizing, and channels."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchvision.transforms import Resize

    from conversion.mapping.key_map import Shapes

Channels = tuple[float, float, float]

RGB = 3
"""Channels of the images that image processors are made for."""

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
HALF: Channels = (0.5, 0.5, 0.5)
"""Mean and standard deviation that bring values from a range of 0 to 1 to one of -1 to 1."""

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


def find_channels(shapes: "Shapes", weight: str, embed_dim: int | None) -> int:
    """Read the input channels off the patch embedding ``(D, channels, patch, patch)``; RGB's if it is misshapen."""
    shape = shapes.get(weight, ())
    return shape[1] if len(shape) == 4 and shape[0] == embed_dim else RGB


def note_channels(num_channels: int) -> tuple[str, ...]:
    """Note what a user must know of a model whose images are not RGB."""
    if num_channels == RGB:
        return ()
    channels = f"{num_channels} channel{'' if num_channels == 1 else 's'}"
    return (
        f"its images have {channels}: no preprocessor_config.json is written, since transformers' image processors are "
        "made for RGB. Prepare images as in training; the model itself is compared on noise of that many channels",
    )
