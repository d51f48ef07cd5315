"""Known deviations of transformers that several families have."""

from dataclasses import replace
from typing import Any

import torch

from conversion.families.images import find_short_edge
from conversion.families.target import transformers_major
from conversion.parity.deviations import Deviation

IMAGE_PROCESSOR_BACKEND = Deviation(
    name="image-processor-backend",
    where="the image processor that transformers 5 loads by default",
    cause="it resizes with torchvision's kernel on tensors, the original with Pillow's",
    size="one grey level, before normalisation, on 0.4 to 0.8 % of the values",
    counterfactual="the processor's PIL backend",
    remedy='load the image processor with backend="pil" (transformers 5) or use_fast=False (4)',
)
"""Of every family whose original resizes with Pillow."""


def _crops_unevenly(spec: Any, size: tuple[int, int], crop_size: int) -> bool:
    short_edge = find_short_edge(crop_size, spec.crop_pct)
    surplus = (int(short_edge * edge / min(size)) - crop_size for edge in size)
    return any(pixels % 4 == 3 for pixels in surplus)


CENTER_CROP = Deviation(
    name="center-crop-rounding",
    where="images of which the crop leaves over 4n + 3 rows or columns: a quarter of all",
    cause="torchvision rounds half the surplus to the nearest even number, transformers down, with either backend",
    size="the crop is shifted by one pixel",
    counterfactual="the original transform with half the surplus rounded down",
    remedy="nothing where the longer side of the resized image is even; else resize and crop the image beforehand with "
    "torchvision's Resize and CenterCrop, and load the image processor with do_resize=False and do_center_crop=False",
    applies_to_image=_crops_unevenly,
)
"""Of every family whose image processor resizes and crops."""


SOFTMAX = Deviation(
    name="softmax-in-float32",
    where="eager attention, in float64",
    cause="its softmax is taken in float32, whatever dtype the model has",
    size="1e-7 on outputs, a billion times float64's rounding",
    counterfactual="the original with a softmax in float32",
    remedy="use sdpa; in float32 and below it makes no model worse",
    original_attributes={"softmax_dtype": torch.float32},
    applies=lambda _spec, _shape, dtype, attention: (dtype, attention) == ("float64", "eager"),
)
"""Of families for which every supported major version of transformers does so."""

SOFTMAX_OF_5 = replace(
    SOFTMAX,
    where=f"transformers 5, {SOFTMAX.where}",
    applies=lambda *case: transformers_major() > 4 and SOFTMAX.applies(*case),
)
"""Of families for which transformers 4 does not."""

SOFTMAX_OF_4 = replace(
    SOFTMAX,
    where=f"transformers 4, {SOFTMAX.where}",
    remedy="use sdpa, or transformers 5; in float32 and below it makes no model worse",
    applies=lambda *case: transformers_major() < 5 and SOFTMAX.applies(*case),
)
"""Of families for which transformers 5 no longer does."""
