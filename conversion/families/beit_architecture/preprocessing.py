"""BEiT's architecture: from an image to the model's input, as an image processor does it."""

from typing import Any

from conversion.families.images import build_resize
from conversion.families.preprocessing import ResizeAndCrop
from conversion.families.vit import Spec


class SquareResize(ResizeAndCrop):
    """A ``BeitImageProcessor`` that resizes to a square, without a crop, as in the official models on the Hub.

    The original evaluates with a crop (``build_transform`` in ``beit/datasets.py``): the known deviation
    ``square-resize``. For segmentation that is one window from the middle of the picture; mmsegmentation slides windows
    over all of it, and resizes with OpenCV.
    """

    def describe_cut(self, spec: Spec, input_size: int) -> dict[str, object]:
        """Describe the image processor's class, and how it makes a square of an image."""
        return {
            "image_processor_type": "BeitImageProcessor",
            "size": {"height": input_size, "width": input_size},
            "do_center_crop": False,
            "do_reduce_labels": spec.task == "semantic-segmentation",  # in ADE20K 0 is what has no label
        }

    def cut_as_processor(self, spec: Spec, input_size: int) -> list[Any]:
        """Build what makes a square of an image as the image processor does: torchvision's transforms."""
        return [build_resize((input_size, input_size), spec.interpolation)]
