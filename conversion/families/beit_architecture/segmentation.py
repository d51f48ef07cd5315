"""BEiT's architecture with a segmentation head: its feature pyramid, and mmsegmentation's UPerHead and FCNHead.

Parameter names and arithmetic are those of ``beit/semantic_segmentation/backbone/beit.py`` in microsoft/unilm and of
``mmseg/models/decode_heads/`` in open-mmlab/mmsegmentation; the text is our own. Paper: https://arxiv.org/abs/1807.10221
(UPerNet). Proven against recorded outputs (``fixtures/golden``).

Shapes in comments: B images, D width, C classes, h patches along a side; features are numbered from the finest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.beit_architecture.config import BeitLikeSpec, limit_out_indices
from conversion.families.beit_architecture.original import Classifier, Encoder, MaskedImageModel, PretrainedModel

AUXILIARY_FEATURE = 2
"""The feature that the auxiliary head sees."""


class PyramidBackbone(Encoder):
    """The encoder, and what turns four blocks' outputs into features at 4, 2, 1 and 1/2 of the patches' resolution."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__(spec)
        width = spec.embed_dim
        self.window = spec.grid
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
        )
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(width, width, kernel_size=2, stride=2))
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(kernel_size=2, stride=2)

    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Tensor | None,
        out_indices: Sequence[int],
        contiguous: bool,
    ) -> list[Tensor]:
        """Features ``(B, D, 4h, 4h)``, ``(B, D, 2h, 2h)``, ``(B, D, h, h)``, ``(B, D, h/2, h/2)``.

        Args:
            out_indices: of the blocks whose outputs are scaled, each to one of these.
            contiguous: lay the tokens out in memory as maps, one channel after the other, before they are scaled.
        """
        _, outputs = self.encode(pixel_values, bool_masked_pos, after=out_indices)
        tokens = [outputs[index][:, 1:].transpose(1, 2) for index in out_indices]  # (B, D, N)
        maps = [each.unflatten(-1, (self.window, self.window)) for each in tokens]  # (B, D, h, h)
        scales = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        return [scale(each.contiguous() if contiguous else each) for scale, each in zip(scales, maps, strict=True)]


class ConvModule(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(maps)))


class UPerHead(nn.Module):
    """UPerNet: the coarsest feature pooled at several scales, then added downwards to the finer ones; all joined."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__()
        width = spec.embed_dim
        num_scales, num_features = len(spec.pool_scales), len(spec.out_indices)
        self.conv_seg = nn.Conv2d(width, spec.num_classes, kernel_size=1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(width, width, 1)) for scale in spec.pool_scales
        )
        self.bottleneck = ConvModule((1 + num_scales) * width, width, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(width, width, 1) for _ in range(num_features - 1))
        self.fpn_convs = nn.ModuleList(ConvModule(width, width, 3) for _ in range(num_features - 1))
        self.fpn_bottleneck = ConvModule(num_features * width, width, 3)

    def pool(self, coarsest: Tensor) -> Tensor:
        """Context from pyramid pooling, ``(B, D, h/2, h/2)``."""
        pooled = [resize_as(module(coarsest), coarsest) for module in self.psp_modules]
        return self.bottleneck(torch.cat((coarsest, *pooled), dim=1))

    def join(self, features: list[Tensor]) -> Tensor:
        """All features, each with what the coarser ones see, at the resolution of the finest: ``(B, 4D, 4h, 4h)``."""
        levels = [lateral(feature) for lateral, feature in zip(self.lateral_convs, features[:-1], strict=True)]
        levels.append(self.pool(features[-1]))
        for fine in range(len(levels) - 2, -1, -1):
            levels[fine] = levels[fine] + resize_as(levels[fine + 1], levels[fine])
        outputs = [conv(level) for conv, level in zip(self.fpn_convs, levels[:-1], strict=True)] + levels[-1:]
        return torch.cat([outputs[0], *(resize_as(output, outputs[0]) for output in outputs[1:])], dim=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits ``(B, C, 4h, 4h)``."""
        return self.conv_seg(self.fpn_bottleneck(self.join(features)))


class FCNHead(nn.Module):
    """The auxiliary head, one convolution deep; it has a part in training only, but is converted and compared."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(spec.auxiliary_channels, spec.num_classes, kernel_size=1)
        self.convs = nn.ModuleList([ConvModule(spec.embed_dim, spec.auxiliary_channels, 3)])

    def forward(self, feature: Tensor) -> Tensor:
        """Logits ``(B, C, h, h)``."""
        return self.conv_seg(self.convs[0](feature))


class SegmentationModel(nn.Module):
    """Backbone, decode head and, where there is one, auxiliary head.

    Attributes:
        contiguous_features: lay the features out in memory one channel after the other; the values are the same, but
            convolutions may sum in another order.
        reaches_last_block: take features of the blocks that the spec says; else of those before, where transformers'
            BEiT cannot be told of the last one.
    """

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__()
        self.contiguous_features = self.reaches_last_block = True
        self.out_indices, self.depth = spec.out_indices, spec.depth
        self.backbone = PyramidBackbone(spec)
        self.decode_head = UPerHead(spec)
        self.auxiliary_head = FCNHead(spec) if spec.auxiliary_channels else None

    @property
    def softmax_dtype(self) -> torch.dtype | None:
        """What every block takes its softmax in, if it is not the model's own dtype."""
        return self.backbone.softmax_dtype

    @softmax_dtype.setter
    def softmax_dtype(self, dtype: torch.dtype | None) -> None:
        self.backbone.softmax_dtype = dtype

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model.

        Returns:
            ``feature.0`` to ``feature.3``; ``logits`` ``(B, C, 4h, 4h)``, four times coarser than the image; and
            ``auxiliary_logits`` ``(B, C, h, h)``.
        """
        out_indices = self.out_indices
        if not self.reaches_last_block:
            out_indices = limit_out_indices(out_indices, self.depth)
        features = self.backbone(pixel_values, bool_masked_pos, out_indices, self.contiguous_features)
        outputs = {f"feature.{index}": feature for index, feature in enumerate(features)}
        outputs["logits"] = self.decode_head(features)
        if self.auxiliary_head is not None:
            outputs["auxiliary_logits"] = self.auxiliary_head(features[AUXILIARY_FEATURE])
        return outputs


def resize_as(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corners not aligned: ``(B, ., h, h)`` to the resolution of ``like``."""
    return F.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=False)


def build_original(spec: BeitLikeSpec) -> nn.Module:
    """Build the original model of this spec."""
    return {
        "backbone": PretrainedModel,
        "masked-image-modeling": MaskedImageModel,
        "image-classification": Classifier,
        "semantic-segmentation": SegmentationModel,
    }[spec.task](spec)
