"""Depth Anything as its authors compute it, written to be read.

Parameter names and arithmetic are those of ``depth_anything_v2/dpt.py`` and ``depth_anything_v2/util/blocks.py`` in
DepthAnything/Depth-Anything-V2, and of ``metric_depth/`` there; the text is our own. Paper:
https://arxiv.org/abs/2406.09414. Proven against outputs recorded from the original code (``fixtures/golden``).

Shapes in comments: B images, h x w patches, p their side, T = 1 + h * w tokens, D width.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.depth_anything.config import HEAD_WIDTH, DepthAnythingSpec
from conversion.families.depth_architecture.original import (
    DepthModel,
    Dinov2,
    ResidualUnit,
    build_resizes,
    name_features,
    resize,
)


class Refinement(nn.Module):
    """A finer map added to what the coarser ones gave; the sum, made finer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resConfUnit1, self.resConfUnit2 = ResidualUnit(width), ResidualUnit(width)
        self.out_conv = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, coarse: Tensor, fine: Tensor | None, size: Sequence[int]) -> Tensor:
        if fine is not None:
            coarse = coarse + self.resConfUnit1(fine)
        return self.out_conv(resize(self.resConfUnit2(coarse), size))


class Scratch(nn.Module):
    """What brings four maps to one width, adds them up from the coarsest to the finest, and makes depth of the sum."""

    def __init__(self, spec: DepthAnythingSpec) -> None:
        super().__init__()
        width = spec.fusion_width
        self.num_maps = len(spec.neck_widths)
        for number, channels in enumerate(spec.neck_widths, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False))
            self.add_module(f"refinenet{number}", Refinement(width))
        self.output_conv1 = nn.Conv2d(width, width // 2, kernel_size=3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(width // 2, HEAD_WIDTH, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HEAD_WIDTH, 1, kernel_size=1),
            nn.Sigmoid() if spec.max_depth else nn.ReLU(),
        )

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Depth ``(B, 1, *size)``, from 0 to 1 of a metric model."""
        maps = [self.get_submodule(f"layer{number}_rn")(each) for number, each in enumerate(maps, start=1)]
        sizes = [[2 * side for side in maps[0].shape[2:]], *(each.shape[2:] for each in maps[:-1])]
        fused, fine = maps[-1], None
        for number in range(self.num_maps, 0, -1):
            fused = self.get_submodule(f"refinenet{number}")(fused, fine, sizes[number - 1])
            fine = maps[number - 2]
        return self.output_conv2(resize(self.output_conv1(fused), size))


class DepthHead(nn.Module):
    """Tokens of four blocks as maps of four resolutions, and depth of these.

    Attributes:
        contiguous: lay the maps out in memory one channel after the other; the values are the same, but convolutions
            may sum in another order.
    """

    def __init__(self, spec: DepthAnythingSpec) -> None:
        super().__init__()
        self.contiguous = False
        self.projects = nn.ModuleList(nn.Conv2d(spec.embed_dim, each, kernel_size=1) for each in spec.neck_widths)
        self.resize_layers = build_resizes(spec.neck_widths)
        self.scratch = Scratch(spec)

    def forward(self, features: Sequence[Tensor], grid: tuple[int, int], size: Sequence[int]) -> Tensor:
        maps = [tokens[:, 1:].transpose(1, 2).unflatten(-1, grid) for tokens in features]  # (B, D, h, w)
        maps = [each.contiguous() for each in maps] if self.contiguous else maps
        layers = zip(self.projects, self.resize_layers, maps, strict=True)
        return self.scratch([scale(project(each)) for project, scale, each in layers], size)


class DepthAnything(DepthModel):
    """DINOv2 and the depth head."""

    def __init__(self, spec: DepthAnythingSpec) -> None:
        super().__init__(spec)
        self.max_depth = spec.max_depth
        self.pretrained = Dinov2(spec.backbone)
        self.depth_head = DepthHead(spec)

    @property
    def contiguous_features(self) -> bool:
        """Whether the head lays its maps out in memory one channel after the other."""
        return self.depth_head.contiguous

    @contiguous_features.setter
    def contiguous_features(self, is_contiguous: bool) -> None:
        self.depth_head.contiguous = is_contiguous

    @property
    def dinov2(self) -> Dinov2:
        """The backbone."""
        return self.pretrained

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Run the model.

        Returns:
            ``feature.0`` to ``feature.3`` ``(B, T, D)``; and ``predicted_depth`` ``(B, p * h, p * w)``, in metres, or,
            of a relative model, without a unit, the larger the nearer.
        """
        features, grid = self.compute_features(pixel_values)
        size = [self.patch_size * side for side in grid]
        depth = self.depth_head(features, grid, size).squeeze(1)
        depth = depth * self.max_depth if self.max_depth else F.relu(depth)
        return {**name_features(features), "predicted_depth": depth}
