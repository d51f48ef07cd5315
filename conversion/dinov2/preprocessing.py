"""DINOv2: from an image to the model's input, as the original evaluates, and as an image processor does it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

CROP_SIZE = 224
RESIZE_RATIO = 256 / 224
"""The short edge before the crop, relative to the crop."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BICUBIC = 3
"""Pillow's number for bicubic, as image processors write it."""


def build_image_processor(crop_size: int) -> dict[str, object]:
    """The content of ``preprocessor_config.json``: a ``BitImageProcessor`` that does what the original transform does.

    Args:
        crop_size: side of the square that the model gets, in pixels; the short edge is resized to 8/7 of it first.
    """
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": round(crop_size * RESIZE_RATIO)},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": crop_size, "width": crop_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }


def build_transform(crop_size: int) -> "Callable[[Image], Tensor]":
    """The original's evaluation transform, RGB image to ``(3, crop_size, crop_size)``.

    Source: ``make_classification_eval_transform`` in ``dinov2/data/transforms.py``.
    """
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(round(crop_size * RESIZE_RATIO), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(crop_size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
