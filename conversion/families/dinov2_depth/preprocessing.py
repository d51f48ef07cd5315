"""DINOv2 with its authors' depth head: from a photo to the model's input, and from its output to the photo's depth."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from conversion.families.dinov2_depth.original import pad_to_patches
from conversion.families.preprocessing import ResizeAndCrop, list_normalisation
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from PIL.Image import Image


def _list_normalisation(spec: Spec) -> list[list[float]]:
    """Mean and standard deviation by channel, of whole numbers from 0 to 255."""
    return [[255 * each for each in values] for values in list_normalisation(spec)]


@dataclass(frozen=True)
class WholeImage(ResizeAndCrop):
    """Normalise the image as it is, and put zeros around it, so that its sides become multiples of a patch.

    That is ``make_depth_transform`` in ``notebooks/depth_estimation.ipynb``; the original puts the zeros in its model.
    """

    def tell_result(self, spec: Spec, input_size: int) -> str:  # noqa: ARG002, of whatever size
        """Tell what the image processor makes of an image, in words."""
        return f"leaves the size as it is, with zeros around it up to whole patches of {spec.patch_size}"

    def describe_cut(self, spec: Spec, input_size: int) -> dict[str, object]:  # noqa: ARG002, as of any spec
        """Describe the image processor's class, and what it does to an image."""
        return {"image_processor_type": "DPTImageProcessor", "do_pad": True, "size_divisor": spec.patch_size}

    def build_image_processor(self, spec: Spec, input_size: int) -> dict[str, object]:
        """Build the content of ``preprocessor_config.json``; mean and std are of whole numbers."""
        described = super().build_image_processor(spec, input_size)
        if not described:
            return {}
        mean, std = _list_normalisation(spec)
        left_out = ("resample", "rescale_factor")
        kept = {name: value for name, value in described.items() if name not in left_out}
        return {**kept, "do_resize": False, "do_rescale": False, "image_mean": mean, "image_std": std}

    def build_transform(
        self,
        spec: Spec,
        input_size: int,  # noqa: ARG002, the image keeps its size
        *,
        as_processor: bool = False,
    ) -> "Callable[[Image], Tensor]":
        """Build the original's transform, RGB image to ``(3, height, width)``.

        Args:
            as_processor: put the zeros around it, as the image processor does and the original's model.
        """
        from torchvision.transforms import Compose, Lambda, Normalize
        from torchvision.transforms.functional import pil_to_tensor

        mean, std = _list_normalisation(spec)
        transform: Callable[[Image], Tensor] = Compose(
            [
                Lambda(lambda image: pil_to_tensor(image).float()),
                Normalize(mean, std),
                *([Lambda(partial(pad_to_patches, patch_size=spec.patch_size))] if as_processor else []),
            ]
        )
        return transform


def list_usage(_spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Imports, and lines that make what the original returns of transformers' output: depth of the photo's size."""
    lines = (
        'photo = Image.open("photo.jpg").convert("RGB")',
        'inputs = processor(photo, return_tensors="pt")',
        "least, most = model.config.min_depth, model.config.max_depth",
        "depth = (model(**inputs).predicted_depth.detach() + least).clamp(least, most)[:, None]",
        'depth = interpolate(depth, photo.size[::-1], mode="bilinear")[0, 0]',
    )
    return ("from PIL import Image", "from torch.nn.functional import interpolate"), lines
