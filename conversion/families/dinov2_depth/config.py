"""DINOv2 with its authors' depth head: what a model is made of, and its transformers config."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conversion.families import configs
from conversion.families.configs import read_lacking, write_lacking
from conversion.families.depth_architecture import config as architecture
from conversion.families.depth_architecture.config import (
    PHOTO_SIZE,
    REASSEMBLE_FACTORS,
    DepthSpec,
    build_backbone_config,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MIN_DEPTH = 0.001
"""In metres: what the original adds to every depth, and the least that it tells."""

HEAD_WIDTH = 32
"""Channels before the last convolution, which both models have written in."""

FUSION_WIDTH = 256
"""Channels in which maps are added up: those that the projection of transformers' head has written in."""


@dataclass(frozen=True, kw_only=True)
class Dinov2DepthSpec(DepthSpec):
    """All that such a model depends on.

    Attributes:
        coarsest_unit: the fusion layer of the coarsest map has a unit for what is added to it, though nothing is.
    """

    apply_layernorm: bool = False
    coarsest_unit: bool = False

    @property
    def original_prefix(self) -> str:
        """Where the backbone lives in the original's module tree and keys."""
        return "backbone."

    @property
    def branches_on_size(self) -> bool:
        """Maps are resized where two differ in their sides, as they do where patches along a side are odd in number."""
        return True

    @property
    def photo_size(self) -> tuple[int, int]:
        """As of all, or smaller for a model of smaller images, since the image processor leaves the size as it is."""
        side = min(PHOTO_SIZE[1], self.image_size)
        return side * 4 // 3, side

    def shape_input(self, side: int) -> tuple[int, int]:  # noqa: ARG002, images keep their size
        """Find the height and width in pixels of what the image processor makes of that photo: whole patches."""
        width, height = (-(-each // self.patch_size) * self.patch_size for each in self.photo_size)
        return height, width

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        return "DPTForDepthEstimation"


def complete(spec: Dinov2DepthSpec) -> Dinov2DepthSpec:
    """Complete a spec by what transformers' model always has."""
    return replace(spec, coarsest_unit=True)


def build_config(spec: Dinov2DepthSpec, _labels: tuple[str, ...]) -> "PretrainedConfig":
    """Build the transformers config, with every value that the outputs depend on."""
    others = {
        "is_hybrid": False,
        "readout_type": "project",
        "reassemble_factors": list(REASSEMBLE_FACTORS),
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": False,
        "use_bias_in_fusion_residual": False,
        "add_projection": True,
        "hidden_act": "gelu",
        # transformers keeps fields that it does not know; what it computes depends on none
        "min_depth": MIN_DEPTH,
        "max_depth": spec.max_depth,
        **write_lacking(spec, complete(spec)),
        **build_backbone_config(spec),
    }
    return configs.build_config("DPTConfig", architecture.FIELDS, spec, (), **others)


def read_config(config: "PretrainedConfig") -> Dinov2DepthSpec:
    """Read the spec that a transformers config describes; the inverse of :func:`build_config`."""
    own = {"max_depth": getattr(config, "max_depth", 0), **read_lacking(config, "coarsest_unit")}
    return architecture.read_config(Dinov2DepthSpec, config, **own)
