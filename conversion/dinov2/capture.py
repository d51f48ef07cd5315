"""DINOv2: where original and transformers model carry the same values. The names hold for transformers 4 and 5."""

from conversion.dinov2.config import Dinov2Spec
from conversion.dinov2.deviations import POSITION_EMBEDDINGS
from conversion.parity.compare import CapturePoint
from conversion.parity.deviations import Deviation

EXACT = frozenset({("cpu", "float32", "sdpa"), ("cpu", "float64", "sdpa")})
"""Where bit for bit equality was reached: device type, dtype, attention."""

EMBEDDINGS = ("cls_token", "pos_embed", "patch_embed.proj.*", "register_tokens", "mask_token")


def capture_points(spec: Dinov2Spec, *, masked: bool = False) -> list[CapturePoint]:
    """Every capture point, in the order of the computation.

    Args:
        masked: for a masked input, which a transformers classifier's head does not take: its backbone's points only.
    """
    base = spec.hf_prefix
    points = [
        CapturePoint("embeddings", "blocks.0:input", f"{base}encoder.layer.0:input", EMBEDDINGS),
        *(
            CapturePoint(f"block.{i}", f"blocks.{i}:output", f"{base}encoder.layer.{i}:output", (f"blocks.{i}.*",))
            for i in range(spec.depth)
        ),
        CapturePoint("norm", "norm:output", f"{base}layernorm:output", ("norm.*",)),
    ]
    if not spec.num_classes:
        points.append(CapturePoint("pooled", ":x_norm_clstoken", ":pooler_output", ()))
    elif not masked:
        points.append(CapturePoint("pooled", "linear_head:input", "classifier:input", ()))
        points.append(CapturePoint("logits", "linear_head:output", "classifier:output", ("linear_head.*",)))
    return points


def find_deviation(spec: Dinov2Spec, shape: tuple[int, ...]) -> Deviation | None:
    """The ledger's entry that applies to an input of this shape, if one does."""
    if spec.num_register_tokens or shape[-2:] == (spec.image_size, spec.image_size):
        return None
    return POSITION_EMBEDDINGS
