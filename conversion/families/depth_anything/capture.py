"""Depth Anything: where original and transformers model carry the same values."""

from conversion.families.depth_anything.config import DepthAnythingSpec
from conversion.families.depth_anything.key_map import HEAD, UNUSED
from conversion.families.depth_architecture import capture as architecture
from conversion.parity.points import Stage


def list_stages(spec: DepthAnythingSpec, *, masked: bool = False) -> list[Stage]:  # noqa: ARG001, none is masked
    """List every capture point, stage by stage in the order of the computation."""
    return architecture.list_stages(spec, HEAD, UNUSED, "predicted_depth")
