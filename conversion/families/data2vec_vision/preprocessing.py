"""Data2Vec-Vision: from an image to the model's input, as the original evaluates, and as an image processor does it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.data2vec_vision.deviations import SQUARE_RESIZE
from conversion.families.images import BICUBIC, IMAGENET_MEAN, IMAGENET_STD
from conversion.parity.deviations import Deviation

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN_BELOW = 384
"""Images of a smaller input size are cut from one that is 8/7 as large; larger ones have no margin to be cut."""

# task: mean and standard deviation of every channel; mmsegmentation's recipe for ADE20K has those of ImageNet
NORMALISATION = {
    "backbone":              ((0.5, 0.5, 0.5),       (0.5, 0.5, 0.5)),
    "image-classification":  ((0.5, 0.5, 0.5),       (0.5, 0.5, 0.5)),
    "semantic-segmentation": (IMAGENET_MEAN,         IMAGENET_STD),
}  # fmt: skip


def build_image_processor(spec: Data2VecVisionSpec, input_size: int) -> dict[str, object]:
    """The content of ``preprocessor_config.json``: a ``BeitImageProcessor`` to a square, without a crop.

    So are the official models on the Hub. It differs from the original's evaluation by the known deviation
    ``square-resize``.

    Args:
        input_size: side of the square, in pixels.
    """
    mean, std = NORMALISATION[spec.task]
    return {
        "image_processor_type": "BeitImageProcessor",
        "do_resize": True,
        "size": {"height": input_size, "width": input_size},
        "resample": BICUBIC,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_reduce_labels": spec.task == "semantic-segmentation",  # in ADE20K 0 is what has no label
    }


def build_transform(
    spec: Data2VecVisionSpec, input_size: int, *, as_processor: bool = False
) -> "Callable[[Image], Tensor]":
    """The original's evaluation transform, RGB image to ``(3, input_size, input_size)``.

    Source: ``build_transform`` in ``beit/datasets.py``. For segmentation it is one window from the middle of the
    picture; mmsegmentation slides windows over all of it, and resizes with OpenCV.

    Args:
        as_processor: resize to a square, as the image processor does: the counterfactual to its known deviation.
    """
    from torchvision import transforms

    bicubic = transforms.InterpolationMode.BICUBIC
    square = [transforms.Resize((input_size, input_size), bicubic)]
    short_edge = int(input_size / (224 / 256 if input_size < MARGIN_BELOW else 1))
    cut = [transforms.Resize(short_edge, bicubic), transforms.CenterCrop(input_size)]
    transform: Callable[[Image], Tensor] = transforms.Compose(
        [
            *(square if as_processor else cut),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALISATION[spec.task]),
        ]
    )
    return transform


def find_image_deviation(_spec: Data2VecVisionSpec, size: tuple[int, int], input_size: int) -> Deviation | None:
    """The ledger's entry that applies to an image of this (width, height), if one does."""
    return SQUARE_RESIZE if input_size < MARGIN_BELOW or size[0] != size[1] else None
