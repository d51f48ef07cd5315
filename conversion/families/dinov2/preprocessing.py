"""DINOv2: from an image to the model's input, as the original evaluates, and as an image processor does it."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.dinov2.deviations import CENTER_CROP
from conversion.families.images import BICUBIC, IMAGENET_MEAN, IMAGENET_STD
from conversion.parity.deviations import Deviation

if TYPE_CHECKING:
    from PIL.Image import Image

CROP_SIZE = 224
RESIZE_RATIO = 256 / 224
"""The short edge before the crop, relative to the crop."""


def choose_input_size(spec: Dinov2Spec) -> int:
    """The official crop, in whole patches; the position embeddings are those of a larger image."""
    return CROP_SIZE // spec.patch_size * spec.patch_size


def build_image_processor(_spec: Dinov2Spec, crop_size: int) -> dict[str, object]:
    """The content of ``preprocessor_config.json``: a ``BitImageProcessor`` that does what the original transform does.

    Args:
        crop_size: side of the square that the model gets, in pixels; the short edge is resized to 8/7 of it first.
    """
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": resized_short_edge(crop_size)},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": crop_size, "width": crop_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }


def build_transform(_spec: Dinov2Spec, crop_size: int, *, as_processor: bool = False) -> "Callable[[Image], Tensor]":
    """The original's evaluation transform, RGB image to ``(3, crop_size, crop_size)``.

    Source: ``make_classification_eval_transform`` in ``dinov2/data/transforms.py``.

    Args:
        as_processor: place the crop where image processors do: the counterfactual to their known deviation.
    """
    from torchvision import transforms

    crop = transforms.Lambda(partial(_crop_rounding_down, crop_size)) if as_processor else None
    transform: Callable[[Image], Tensor] = transforms.Compose(
        [
            transforms.Resize(resized_short_edge(crop_size), transforms.InterpolationMode.BICUBIC),
            crop or transforms.CenterCrop(crop_size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return transform


def resized_short_edge(crop_size: int) -> int:
    """The short edge before the crop, in pixels."""
    return round(crop_size * RESIZE_RATIO)


def find_image_deviation(_spec: Dinov2Spec, size: tuple[int, int], crop_size: int) -> Deviation | None:
    """The ledger's entry that applies to an image of this (width, height), if one does."""
    short_edge = resized_short_edge(crop_size)
    surplus = (int(short_edge * edge / min(size)) - crop_size for edge in size)
    return CENTER_CROP if any(pixels % 4 == 3 for pixels in surplus) else None


def _crop_rounding_down(crop_size: int, image: "Image") -> "Image":
    left, top = ((edge - crop_size) // 2 for edge in image.size)
    return image.crop((left, top, left + crop_size, top + crop_size))
