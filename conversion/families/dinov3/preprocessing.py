"""DINOv3: from an image to the model's input, as its authors and as transformers' image processor do it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from conversion.families.preprocessing import ResizeAndCrop, list_normalisation
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from PIL.Image import Image


class SquareTensorResize(ResizeAndCrop):
    """Resize a tensor of whole numbers to a square, then bring it to a range of 0 to 1, and normalise.

    That is ``make_transform`` in the authors' README. transformers' image processor rescales first: the known deviation
    ``rescale-before-resize``.
    """

    def describe_cut(self, spec: Spec, input_size: int) -> dict[str, object]:  # noqa: ARG002, as of any spec
        """Describe the image processor's class, and how it makes a square of an image."""
        return {
            "image_processor_type": "DINOv3ViTImageProcessorFast",
            "size": {"height": input_size, "width": input_size},
        }

    def build_transform(
        self, spec: Spec, input_size: int, *, as_processor: bool = False
    ) -> "Callable[[Image], Tensor]":
        """Build the original's transform, RGB image to ``(3, input_size, input_size)``.

        Args:
            as_processor: rescale before the resize: the counterfactual to the image processor's known deviation.
        """
        import torch
        from torchvision.transforms import InterpolationMode, v2

        resize = v2.Resize((input_size, input_size), InterpolationMode(spec.interpolation), antialias=True)
        rescale: list[Any] = [resize, v2.ToDtype(torch.float32, scale=True)]
        if as_processor:
            rescale = [v2.Lambda(_multiply), resize]
        steps = [v2.ToImage(), *rescale, v2.Normalize(*list_normalisation(spec)), v2.ToPureTensor()]
        transform: Callable[[Image], Tensor] = v2.Compose(steps)
        return transform


def _multiply(image: Tensor) -> Tensor:
    return image * (1 / 255)
