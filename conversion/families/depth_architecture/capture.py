"""DINOv2 with a depth head: where original and transformers model carry the same values."""

from conversion.families.depth_architecture.config import DepthSpec
from conversion.families.depth_architecture.key_map import Modules
from conversion.families.dinov2 import capture as dinov2
from conversion.parity.points import OUTPUT, Stage, build_block, build_place, build_unused

EXACT = frozenset({("cpu", "float32", "sdpa"), ("cpu", "float64", "sdpa")})
"""Where bit for bit equality was reached, of either family: device type, dtype, attention."""


def list_stages(spec: DepthSpec, head: Modules, unused: Modules, depth: str) -> list[Stage]:
    """List every capture point: the backbone's, the output of every module of the head, what is returned.

    Args:
        head: its modules in the order of the computation.
        unused: modules that no output depends on, whose tensors are compared as they are.
        depth: what the original calls the depth that it returns.
    """
    original, hf = spec.original_prefix, spec.hf_prefix
    places = {
        f"{source}:{ending[1:]}": f"{target}:{ending[1:]}"
        for source, (target, endings) in unused.items()
        for ending in endings
    }
    if spec.mask_token:
        places[f"{original[:-1]}:mask_token"] = f"{hf}embeddings:mask_token"
    returned = build_place("returned.predicted_depth", f":{depth}", ":predicted_depth")
    # the final norm, which is run once for every feature, shows where each of these is first seen
    rows = (("", ":output", ":output", ("*", f"/{original}norm.*")),) if spec.apply_layernorm else OUTPUT
    return [
        *dinov2.list_backbone_stages(spec),
        *(build_block(target, rows, source, target) for source, (target, _) in head.items()),
        build_unused(places),
        returned,
    ]
