"""Data2Vec-Vision: from an image to the model's input, as the original evaluates, and as an image processor does it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.data2vec_vision.deviations import SQUARE_RESIZE
from conversion.families.images import RESAMPLING, RGB, Channels, choose_mode, find_short_edge
from conversion.parity.deviations import Deviation

if TYPE_CHECKING:
    from PIL.Image import Image


def build_image_processor(spec: Data2VecVisionSpec, input_size: int) -> dict[str, object]:
    """The content of ``preprocessor_config.json``: a ``BeitImageProcessor`` to a square, without a crop.

    So are the official models on the Hub. It differs from the original's evaluation by the known deviation
    ``square-resize``.

    Args:
        input_size: side of the square, in pixels.

    Returns:
        nothing where images are not RGB.
    """
    if spec.num_channels != RGB:
        return {}
    mean, std = _normalisation(spec)
    return {
        "image_processor_type": "BeitImageProcessor",
        "do_resize": True,
        "size": {"height": input_size, "width": input_size},
        "resample": RESAMPLING[spec.interpolation],
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

    mode = choose_mode(spec.interpolation)
    square = [transforms.Resize((input_size, input_size), mode)]
    cut = [transforms.Resize(find_short_edge(input_size, spec.crop_pct), mode), transforms.CenterCrop(input_size)]
    transform: Callable[[Image], Tensor] = transforms.Compose(
        [
            *(square if as_processor else cut),
            transforms.ToTensor(),
            transforms.Normalize(*_normalisation(spec)),
        ]
    )
    return transform


def find_image_deviation(spec: Data2VecVisionSpec, size: tuple[int, int], _input_size: int) -> Deviation | None:
    """The ledger's entry that applies to an image of this (width, height), if one does."""
    return SQUARE_RESIZE if spec.crop_pct < 1 or size[0] != size[1] else None


def _normalisation(spec: Data2VecVisionSpec) -> tuple[Channels, Channels]:
    if spec.image_mean is None or spec.image_std is None:
        raise CheckpointError(
            "Nothing tells how images are normalised.",
            hint="Give image_mean and image_std (--image-mean, --image-std).",
        )
    return spec.image_mean, spec.image_std
