"""Depth Anything: from a photo to the model's input, and from its output to the photo's depth."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from conversion.families.images import build_resize
from conversion.families.preprocessing import ResizeAndCrop, list_normalisation
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]


def choose_size(size: Size, least: int, patch_size: int, *, as_processor: bool = False) -> Size:
    """Choose the height and width that an image is brought to: in whole patches, at its aspect ratio.

    The original makes both sides at least ``least``; transformers' image processor brings one of them there, that
    whose length changes less.

    Args:
        size: height and width of the image.
    """
    factors = [least / side for side in size]
    factor = min(factors, key=lambda each: abs(1 - each)) if as_processor else max(factors)
    height, width = (_round_to_patches(factor * side, patch_size, 0 if as_processor else least) for side in size)
    return height, width


def _round_to_patches(side: float, patch_size: int, least: int) -> int:
    rounded = round(side / patch_size) * patch_size
    return rounded if rounded >= least else math.ceil(side / patch_size) * patch_size


@dataclass(frozen=True)
class AspectResize(ResizeAndCrop):
    """Resize to whole patches at the image's aspect ratio, then normalise.

    That is ``image2tensor`` in ``depth_anything_v2/dpt.py``. The original resizes fractions with OpenCV, whose bicubic
    kernel is torch's; transformers' image processor resizes whole numbers with Pillow's: the known deviations
    ``resize-kernel`` and ``resize-by-smaller-change``.
    """

    official_crop: int | None = 518

    def describe_cut(self, spec: Spec, input_size: int) -> dict[str, object]:
        """Describe the image processor's class, and which size it brings an image to."""
        return {
            "image_processor_type": "DPTImageProcessor",
            "size": {"height": input_size, "width": input_size},
            "keep_aspect_ratio": True,
            "ensure_multiple_of": spec.patch_size,
            "do_pad": False,
        }

    def tell_result(self, spec: Spec, input_size: int) -> str:
        """Tell what the image processor makes of an image, in words."""
        return f"brings one side to {input_size}, the other to whole patches of {spec.patch_size} by the aspect ratio"

    def build_transform(
        self, spec: Spec, input_size: int, *, as_processor: bool = False
    ) -> "Callable[[Image], Tensor]":
        """Build the original's transform, RGB image to ``(3, height, width)``.

        Args:
            as_processor: resize as the image processor does: the counterfactual to its known deviations.
        """
        if as_processor:
            return super().build_transform(spec, input_size, as_processor=True)
        return partial(_transform, spec, input_size)

    def cut_as_processor(self, spec: Spec, input_size: int) -> list[Any]:
        """Build what resizes an image as the image processor does: torchvision's transforms."""
        from torchvision.transforms import Lambda

        def resize(image: "Image") -> "Image":
            size = choose_size(image.size[::-1], input_size, spec.patch_size, as_processor=True)
            resized: Image = build_resize(size, spec.interpolation)(image)
            return resized

        return [Lambda(resize)]


def _transform(spec: Spec, input_size: int, image: "Image") -> Tensor:
    from torchvision.transforms.functional import pil_to_tensor

    size = choose_size(image.size[::-1], input_size, spec.patch_size)
    pixels = pil_to_tensor(image).double() / 255  # (3, height, width)
    resized = F.interpolate(pixels[None], size=size, mode="bicubic", align_corners=False)[0]
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in list_normalisation(spec))
    return ((resized - mean) / std).float()


def list_usage(_spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Imports, and lines that bring the depth to the photo's size as ``infer_image`` does."""
    lines = (
        'photo = Image.open("photo.jpg").convert("RGB")',
        'inputs = processor(photo, return_tensors="pt")',
        "depth = model(**inputs).predicted_depth.detach()[:, None]",
        'depth = interpolate(depth, photo.size[::-1], mode="bilinear", align_corners=True)[0, 0]',
    )
    return ("from PIL import Image", "from torch.nn.functional import interpolate"), lines
