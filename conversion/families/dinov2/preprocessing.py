"""DINOv2: from an image to the model's input, as the original evaluates, and as an image processor does it."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.dinov2.deviations import CENTER_CROP
from conversion.families.images import RESAMPLING, RGB, choose_mode, find_short_edge
from conversion.parity.deviations import Deviation

if TYPE_CHECKING:
    from PIL.Image import Image

CROP_SIZE = 224


def choose_input_size(spec: Dinov2Spec) -> int:
    """Side of the images that a model is meant for: as told, or the official crop in whole patches.

    Where nobody told how position embeddings are resampled, the native size: nothing is claimed of any other.
    """
    if spec.input_size:
        return spec.input_size
    return choose_crop(spec) if spec.any_size and spec.num_channels == RGB else spec.image_size


def choose_crop(spec: Dinov2Spec) -> int:
    """The official crop, in whole patches."""
    return CROP_SIZE // spec.patch_size * spec.patch_size


def build_image_processor(spec: Dinov2Spec, crop_size: int) -> dict[str, object]:
    """The content of ``preprocessor_config.json``: a ``BitImageProcessor`` that does what the original transform does.

    Args:
        crop_size: side of the square that the model gets, in pixels; the short edge is resized first, officially to
            8/7 of it.

    Returns:
        nothing where images are not RGB.
    """
    if spec.num_channels != RGB:
        return {}
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": find_short_edge(crop_size, spec.crop_pct)},
        "resample": RESAMPLING[spec.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": crop_size, "width": crop_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.image_mean),
        "image_std": list(spec.image_std),
    }


def build_transform(spec: Dinov2Spec, crop_size: int, *, as_processor: bool = False) -> "Callable[[Image], Tensor]":
    """The original's evaluation transform, RGB image to ``(3, crop_size, crop_size)``.

    Source: ``make_classification_eval_transform`` in ``dinov2/data/transforms.py``.

    Args:
        as_processor: place the crop where image processors do: the counterfactual to their known deviation.
    """
    from torchvision import transforms

    crop = transforms.Lambda(partial(_crop_rounding_down, crop_size)) if as_processor else None
    transform: Callable[[Image], Tensor] = transforms.Compose(
        [
            transforms.Resize(find_short_edge(crop_size, spec.crop_pct), choose_mode(spec.interpolation)),
            crop or transforms.CenterCrop(crop_size),
            transforms.ToTensor(),
            transforms.Normalize(spec.image_mean, spec.image_std),
        ]
    )
    return transform


def find_image_deviation(spec: Dinov2Spec, size: tuple[int, int], crop_size: int) -> Deviation | None:
    """The ledger's entry that applies to an image of this (width, height), if one does."""
    short_edge = find_short_edge(crop_size, spec.crop_pct)
    surplus = (int(short_edge * edge / min(size)) - crop_size for edge in size)
    return CENTER_CROP if any(pixels % 4 == 3 for pixels in surplus) else None


def _crop_rounding_down(crop_size: int, image: "Image") -> "Image":
    left, top = ((edge - crop_size) // 2 for edge in image.size)
    return image.crop((left, top, left + crop_size, top + crop_size))
