"""DINOv2 with its authors' depth head as they compute it, written to be read.

Parameter names and arithmetic are those of ``dinov2/hub/depthers.py`` and ``dinov2/hub/depth/`` in
facebookresearch/dinov2; the text is our own. Proven against outputs recorded from the original code
(``fixtures/golden``).

Shapes in comments: B images, h x w patches, T = 1 + h * w tokens, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.depth_architecture.original import (
    DepthModel,
    Dinov2,
    ResidualUnit,
    build_resizes,
    name_features,
    resize,
)
from conversion.families.dinov2_depth.config import HEAD_WIDTH, MIN_DEPTH, Dinov2DepthSpec


class Convolution(nn.Module):
    """A convolution under the name that mmcv's ConvModule gives it."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, padding: int = 0, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(maps)


class ReassembleBlocks(nn.Module):
    """Tokens of four blocks, each joined with its CLS token, as maps of four resolutions."""

    def __init__(self, spec: Dinov2DepthSpec) -> None:
        super().__init__()
        width, widths = spec.embed_dim, spec.neck_widths
        self.projects = nn.ModuleList(Convolution(width, each, kernel_size=1) for each in widths)
        self.resize_layers = build_resizes(widths)
        self.readout_projects = nn.ModuleList(nn.Sequential(nn.Linear(2 * width, width), nn.GELU()) for _ in widths)

    def forward(self, features: Sequence[Tensor], grid: tuple[int, int]) -> list[Tensor]:
        layers = zip(self.readout_projects, self.projects, self.resize_layers, features, strict=True)
        return [scale(project(self._read_out(readout, each, grid))) for readout, project, scale, each in layers]

    def _read_out(self, readout: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        patches = tokens[:, 1:]
        joined = torch.cat((patches, tokens[:, :1].expand_as(patches)), dim=-1)  # (B, h * w, 2D)
        return readout(joined).transpose(1, 2).unflatten(-1, grid)  # (B, D, h, w)


class FusionBlock(nn.Module):
    """A finer map added to what the coarser ones gave; the sum, twice as fine."""

    def __init__(self, width: int, *, has_unit: bool) -> None:
        super().__init__()
        if has_unit:
            self.res_conv_unit1 = ResidualUnit(width, Convolution, bias=False)
        self.res_conv_unit2 = ResidualUnit(width, Convolution, bias=False)
        self.project = Convolution(width, width, kernel_size=1)

    def forward(self, coarse: Tensor, fine: Tensor | None = None) -> Tensor:
        if fine is not None:
            if fine.shape != coarse.shape:  # where the coarsest map was rounded up
                fine = resize(fine, coarse.shape[2:], align_corners=False)
            coarse = coarse + self.res_conv_unit1(fine)
        summed = self.res_conv_unit2(coarse)
        return self.project(_double(summed))


class HeadDepth(nn.Module):
    """Three convolutions, and twice the resolution after the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(width, width // 2, kernel_size=3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(width // 2, HEAD_WIDTH, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HEAD_WIDTH, 1, kernel_size=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.head(maps)


class DPTHead(nn.Module):
    """Maps of four resolutions, added up from the coarsest to the finest, and depth of the sum."""

    def __init__(self, spec: Dinov2DepthSpec) -> None:
        super().__init__()
        width = spec.fusion_width
        self.reassemble_blocks = ReassembleBlocks(spec)
        self.convs = nn.ModuleList(
            Convolution(each, width, kernel_size=3, padding=1, bias=False) for each in spec.neck_widths
        )
        units = [spec.coarsest_unit, *[True] * (len(spec.neck_widths) - 1)]
        self.fusion_blocks = nn.ModuleList(FusionBlock(width, has_unit=has_unit) for has_unit in units)
        self.project = Convolution(width, width, kernel_size=3, padding=1)
        self.conv_depth = HeadDepth(width)

    def forward(self, features: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Depth ``(B, 1, H, W)``, 32 times as fine as the coarsest map; 0 where it would be less."""
        maps = [conv(each) for conv, each in zip(self.convs, self.reassemble_blocks(features, grid), strict=True)]
        fused = self.fusion_blocks[0](maps[-1])
        for block, fine in zip(self.fusion_blocks[1:], reversed(maps[:-1]), strict=True):
            fused = block(fused, fine)
        return F.relu(self.conv_depth(F.relu(self.project(fused))))


class Dinov2Depth(DepthModel):
    """DINOv2 and the depth head.

    Attributes:
        min_depth, max_depth: in metres; the first is added to every depth.
        pads: zeros are put around an image whose sides are no multiples of a patch; else what is over is cut off.
    """

    def __init__(self, spec: Dinov2DepthSpec) -> None:
        super().__init__(spec)
        self.min_depth, self.max_depth, self.pads = MIN_DEPTH, spec.max_depth, True
        self.backbone = Dinov2(spec.backbone)
        self.decode_head = DPTHead(spec)

    @property
    def dinov2(self) -> Dinov2:
        """The backbone."""
        return self.backbone

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Run the model.

        Returns:
            ``feature.0`` to ``feature.3`` ``(B, T, D)``; ``head_depth`` in metres, as the head gives it; and
            ``predicted_depth`` ``(B, height, width)``, within the model's range and of the size of the image.
        """
        size = pixel_values.shape[2:]
        padded = pad_to_patches(pixel_values, self.patch_size) if self.pads else pixel_values
        features, grid = self.compute_features(padded)
        depth = self.decode_head(features, grid) + self.min_depth
        clamped = depth.clamp(MIN_DEPTH, self.max_depth)
        whole = resize(clamped, size, align_corners=False)
        return {**name_features(features), "head_depth": depth.squeeze(1), "predicted_depth": whole.squeeze(1)}


def pad_to_patches(pixel_values: Tensor, patch_size: int) -> Tensor:
    """Put zeros around images, the smaller half above and to the left, until their sides are whole patches."""
    missing = [-side % patch_size for side in reversed(pixel_values.shape[-2:])]
    return F.pad(pixel_values, [part for each in missing for part in (each // 2, each - each // 2)])


def _double(maps: Tensor) -> Tensor:
    return resize(maps, [2 * side for side in maps.shape[2:]])
