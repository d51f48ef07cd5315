"""DINOv2 with its authors' depth head: where original and transformers model carry the same values."""

from conversion.families.depth_architecture import capture as architecture
from conversion.families.dinov2_depth.config import Dinov2DepthSpec
from conversion.families.dinov2_depth.key_map import MODULES, UNUSED
from conversion.parity.points import Stage


def list_stages(spec: Dinov2DepthSpec, *, masked: bool = False) -> list[Stage]:  # noqa: ARG001, none is masked
    """List every capture point, stage by stage in the order of the computation."""
    return architecture.list_stages(spec, MODULES, UNUSED, "head_depth")
