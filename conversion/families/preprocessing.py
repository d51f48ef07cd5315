"""From an image to the model's input: as originals evaluate, and as image processors do it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.images import RESAMPLING, RGB, Channels, build_resize, find_short_edge
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ResizeAndCrop:
    """Resize the short edge, crop the middle, normalise: how most vision transformers evaluate.

    Attributes:
        official_crop: side in pixels that the authors evaluate models at that take any size, before it is brought down
            to whole patches; None where models take their native size only.
    """

    official_crop: int | None = None

    def choose_input_size(self, spec: Spec) -> int:
        """Choose the side in pixels of a model's images: as told, the official crop, or the native size.

        The native one where the model takes no other or nothing tells how it does, and where images are not RGB.
        """
        official = self.list_other_sizes(spec) if spec.any_size and spec.num_channels == RGB else ()
        return spec.input_size or next(iter(official), spec.image_size)

    def list_other_sizes(self, spec: Spec) -> tuple[int, ...]:
        """List other sides in pixels of images that an image processor for this spec may make: the official crop."""
        return (self.official_crop // spec.patch_size * spec.patch_size,) if self.official_crop else ()

    def build_image_processor(self, spec: Spec, input_size: int) -> dict[str, object]:
        """Build the content of ``preprocessor_config.json``, for a model input of ``input_size`` pixels a side.

        Returns:
            nothing where images are not RGB.
        """
        if spec.num_channels != RGB:
            return {}
        mean, std = list_normalisation(spec)
        return {
            **self.describe_cut(spec, input_size),
            "resample": RESAMPLING[spec.interpolation],
            "do_resize": True,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(mean),
            "image_std": list(std),
        }

    def tell_result(self, spec: Spec, input_size: int) -> str:  # noqa: ARG002, as of other families
        """Tell what the image processor makes of an image, in words."""
        return f"makes {input_size} x {input_size}"

    def describe_cut(self, spec: Spec, input_size: int) -> dict[str, object]:
        """Describe the image processor's class, and how it makes a square of an image."""
        return {
            "image_processor_type": "BitImageProcessor",
            "do_convert_rgb": True,
            "size": {"shortest_edge": find_short_edge(input_size, spec.crop_pct)},
            "do_center_crop": True,
            "crop_size": {"height": input_size, "width": input_size},
        }

    def build_transform(
        self, spec: Spec, input_size: int, *, as_processor: bool = False
    ) -> "Callable[[Image], Tensor]":
        """Build the original's evaluation transform, RGB image to ``(3, input_size, input_size)``.

        Args:
            as_processor: cut as the image processor does: the counterfactual to its known deviation.
        """
        from torchvision import transforms

        cut = self.cut_as_processor if as_processor else self.cut
        steps = [*cut(spec, input_size), transforms.ToTensor(), transforms.Normalize(*list_normalisation(spec))]
        transform: Callable[[Image], Tensor] = transforms.Compose(steps)
        return transform

    def cut(self, spec: Spec, input_size: int) -> list[Any]:
        """Build what makes a square of an image in the original: torchvision's transforms."""
        from torchvision.transforms import CenterCrop

        return [build_resize(find_short_edge(input_size, spec.crop_pct), spec.interpolation), CenterCrop(input_size)]

    def cut_as_processor(self, spec: Spec, input_size: int) -> list[Any]:
        """Build what does so as the image processor: where it crops, it rounds half the surplus down."""
        from torchvision.transforms import Lambda

        return [self.cut(spec, input_size)[0], Lambda(partial(_crop_rounding_down, input_size))]


def _crop_rounding_down(crop_size: int, image: "Image") -> "Image":
    left, top = ((edge - crop_size) // 2 for edge in image.size)
    return image.crop((left, top, left + crop_size, top + crop_size))


def list_normalisation(spec: Spec) -> tuple[Channels, Channels]:
    """Mean and standard deviation of images.

    Raises:
        CheckpointError: nobody told.
    """
    if spec.image_mean is None or spec.image_std is None:
        raise CheckpointError(
            "Nothing tells how images are normalised.",
            hint="Give image_mean and image_std (--image-mean, --image-std).",
        )
    return spec.image_mean, spec.image_std
