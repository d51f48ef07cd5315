"""DINOv2 with a depth head: what its authors' heads and Depth Anything's compute alike, written to be read.

Paper: https://arxiv.org/abs/2103.13413 (DPT).

Shapes in comments: B images, h x w patches, T = 1 + h * w tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.depth_architecture.config import DepthSpec
from conversion.families.dinov2.original import Dinov2, bake_image_size

__all__ = ["DepthModel", "Dinov2", "ResidualUnit", "bake_image_size", "build_resizes", "name_features", "resize"]


def _of_backbone(name: str) -> property:
    """An attribute that deviations set, of the model's backbone."""

    def read(model: "DepthModel") -> Any:
        return getattr(model.dinov2, name)

    def write(model: "DepthModel", value: object) -> None:
        setattr(model.dinov2, name, value)

    return property(read, write)


class DepthModel(nn.Module):
    """A DINOv2, and a head that makes depth of the outputs of four blocks."""

    softmax_dtype = _of_backbone("softmax_dtype")
    interpolate_offset = _of_backbone("interpolate_offset")
    interpolate_antialias = _of_backbone("interpolate_antialias")

    def __init__(self, spec: DepthSpec) -> None:
        super().__init__()
        self.patch_size = spec.patch_size

    @property
    def dinov2(self) -> Dinov2:
        """The backbone, under whatever name."""
        raise NotImplementedError

    def compute_features(self, pixel_values: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Compute what the head sees, four times ``(B, T, D)``; and the grid of patches ``(h, w)``."""
        grid = pixel_values.shape[2] // self.patch_size, pixel_values.shape[3] // self.patch_size
        return self.dinov2(pixel_values)["feature_maps"], grid  # called, so that hooks on it see it


def name_features(features: Sequence[Tensor]) -> dict[str, Tensor]:
    """Name them ``feature.0`` and so on."""
    return {f"feature.{index}": tokens for index, tokens in enumerate(features)}


def build_resizes(widths: Sequence[int]) -> nn.ModuleList:
    """What makes maps of 4, 2, 1 and 1/2 times the patches' resolution."""
    first, second, _, last = widths
    return nn.ModuleList(
        [
            nn.ConvTranspose2d(first, first, kernel_size=4, stride=4),
            nn.ConvTranspose2d(second, second, kernel_size=2, stride=2),
            nn.Identity(),
            nn.Conv2d(last, last, kernel_size=3, stride=2, padding=1),
        ]
    )


class ResidualUnit(nn.Module):
    """Two convolutions, each behind a ReLU, added to their input."""

    def __init__(self, width: int, convolution: Callable[..., nn.Module] = nn.Conv2d, *, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = convolution(width, width, kernel_size=3, padding=1, bias=bias)
        self.conv2 = convolution(width, width, kernel_size=3, padding=1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(F.relu(maps)))) + maps


def resize(maps: Tensor, size: Sequence[int], *, align_corners: bool = True) -> Tensor:
    """Bilinear, to this height and width."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=align_corners)
