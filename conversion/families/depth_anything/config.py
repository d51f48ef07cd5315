"""Depth Anything: what a model is made of, and its transformers config."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conversion.families import configs
from conversion.families.configs import ConfigTable
from conversion.families.depth_architecture import config as architecture
from conversion.families.depth_architecture.config import REASSEMBLE_FACTORS, DepthSpec, build_backbone_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HEAD_WIDTH = 32
"""Channels before the last convolution, which the original has written in."""

FIELDS: ConfigTable = {
    **architecture.FIELDS,
    "reassemble_hidden_size": "embed_dim",
    "patch_size": "patch_size",
}


@dataclass(frozen=True, kw_only=True)
class DepthAnythingSpec(DepthSpec):
    """All that a Depth Anything model depends on."""

    @property
    def original_prefix(self) -> str:
        """Where the backbone lives in the original's module tree and keys."""
        return "pretrained."

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        return "DepthAnythingForDepthEstimation"


def build_config(spec: DepthAnythingSpec, _labels: tuple[str, ...]) -> "PretrainedConfig":
    """Build the transformers config, with every value that the outputs depend on."""
    others = {
        "depth_estimation_type": "metric" if spec.max_depth else "relative",
        "max_depth": spec.max_depth or 1,  # transformers multiplies by it in either case
        "reassemble_factors": list(REASSEMBLE_FACTORS),
        "head_hidden_size": HEAD_WIDTH,
        "head_in_index": -1,
        **build_backbone_config(spec),
    }
    return configs.build_config("DepthAnythingConfig", FIELDS, spec, (), **others)


def read_config(config: "PretrainedConfig") -> DepthAnythingSpec:
    """Read the spec that a transformers config describes; the inverse of :func:`build_config`."""
    max_depth = config.max_depth if config.depth_estimation_type == "metric" else 0
    return architecture.read_config(DepthAnythingSpec, config, max_depth=max_depth)
