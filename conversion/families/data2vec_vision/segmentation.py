"""Data2Vec-Vision with a segmentation head: BEiT's feature pyramid, and mmsegmentation's UPerHead and FCNHead.

Parameter names and arithmetic are those of ``beit/semantic_segmentation/backbone/beit.py`` in microsoft/unilm and of
``mmseg/models/decode_heads/`` in open-mmlab/mmsegmentation; the text is our own. Paper: https://arxiv.org/abs/1807.10221
(UPerNet). Proven against recorded outputs (``fixtures/golden``).

Shapes in comments: B images, D width, C classes, h patches along a side; features are numbered from the finest.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.data2vec_vision.original import Classifier, Encoder, PretrainedModel

AUXILIARY_FEATURE = 2
"""The feature that the auxiliary head sees."""


class PyramidBackbone(Encoder):
    """The encoder, and what turns four blocks' outputs into features at 4, 2, 1 and 1/2 of the patches' resolution."""

    def __init__(self, spec: Data2VecVisionSpec) -> None:
        super().__init__(spec)
        width = spec.embed_dim
        self.window = spec.grid
        self.out_indices = spec.out_indices
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
        )
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(width, width, kernel_size=2, stride=2))
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(kernel_size=2, stride=2)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None, contiguous: bool) -> list[Tensor]:
        """Features ``(B, D, 4h, 4h)``, ``(B, D, 2h, 2h)``, ``(B, D, h, h)``, ``(B, D, h/2, h/2)``.

        Args:
            contiguous: lay the tokens out in memory as maps, one channel after the other, before they are scaled.
        """
        _, outputs = self.encode(pixel_values, bool_masked_pos, after=self.out_indices)
        tokens = [outputs[index][:, 1:].transpose(1, 2) for index in self.out_indices]  # (B, D, N)
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

    def __init__(self, spec: Data2VecVisionSpec) -> None:
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

    def __init__(self, spec: Data2VecVisionSpec) -> None:
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
    """

    def __init__(self, spec: Data2VecVisionSpec) -> None:
        super().__init__()
        self.contiguous_features = True
        self.backbone = PyramidBackbone(spec)
        self.decode_head = UPerHead(spec)
        self.auxiliary_head = FCNHead(spec) if spec.auxiliary_channels else None

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model.

        Returns:
            ``feature.0`` to ``feature.3``; ``logits`` ``(B, C, 4h, 4h)``, four times coarser than the image; and
            ``auxiliary_logits`` ``(B, C, h, h)``.
        """
        features = self.backbone(pixel_values, bool_masked_pos, self.contiguous_features)
        outputs = {f"feature.{index}": feature for index, feature in enumerate(features)}
        outputs["logits"] = self.decode_head(features)
        if self.auxiliary_head is not None:
            outputs["auxiliary_logits"] = self.auxiliary_head(features[AUXILIARY_FEATURE])
        return outputs


def resize_as(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corners not aligned: ``(B, ., h, h)`` to the resolution of ``like``."""
    return F.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=False)


def build_original(spec: Data2VecVisionSpec) -> nn.Module:
    """Build the original model of this spec."""
    return {
        "backbone": PretrainedModel,
        "image-classification": Classifier,
        "semantic-segmentation": SegmentationModel,
    }[spec.task](spec)
