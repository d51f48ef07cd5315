"""Data2Vec-Vision: where original and transformers model carry the same values."""

from conversion.data2vec_vision.config import Data2VecVisionSpec
from conversion.data2vec_vision.deviations import FEATURE_LAYOUT
from conversion.parity.compare import CapturePoint
from conversion.parity.deviations import Deviation
from conversion.target import transformers_major

EXACT = frozenset({("cpu", "float32", "eager")})
"""Where bit for bit equality was reached: device type, dtype, attention."""

EMBEDDINGS = ("cls_token", "mask_token", "pos_embed", "patch_embed.proj.*")
PYRAMID = {1: ("fpn1.*",), 2: ("fpn2.*",), 3: (), 4: ()}

# transformers' name of the convolution that joins the pooled maps, by major version
PYRAMID_POOLING = {4: "decode_head.bottleneck", 5: "decode_head.psp_bottleneck"}


def capture_points(spec: Data2VecVisionSpec, *, masked: bool = False) -> list[CapturePoint]:
    """Every capture point, in the order of the computation.

    Args:
        masked: for a masked input, which a transformers model with a head does not take: its backbone's points only.
    """
    hf, original = spec.hf_prefix, spec.original_prefix
    shared = (f"{original}rel_pos_bias.*",) if spec.shared_position_bias else ()
    points = [
        CapturePoint(
            "embeddings",
            f"{original}blocks.0:input",
            f"{hf}encoder.layer.0:input",
            tuple(original + key for key in EMBEDDINGS),
        ),
        *(
            CapturePoint(
                f"block.{i}",
                f"{original}blocks.{i}:output",
                f"{hf}encoder.layer.{i}:output",
                (f"{original}blocks.{i}.*", *(shared if i == 0 else ())),
            )
            for i in range(spec.depth)
        ),
    ]
    if not spec.mean_pooling:
        points.append(CapturePoint("norm", "norm:output", f"{hf}layernorm:output", ("norm.*",)))
    if masked or spec.task == "backbone":
        return points
    if spec.task == "image-classification":
        return [
            *points,
            CapturePoint("pooled", "head:input", "classifier:input", ("fc_norm.*",) if spec.mean_pooling else ()),
            CapturePoint("logits", "head:output", "classifier:output", ("head.*",)),
        ]
    return points + _capture_heads(spec)


def _capture_heads(spec: Data2VecVisionSpec) -> list[CapturePoint]:
    pooling = PYRAMID_POOLING[transformers_major()]
    points = [
        CapturePoint(
            f"feature.{number - 1}",
            f"backbone.fpn{number}:output",
            f"fpn{number}:output",
            tuple(f"backbone.{key}" for key in sources),
        )
        for number, sources in PYRAMID.items()
    ]
    points += [
        CapturePoint(
            f"lateral.{level}",
            f"decode_head.lateral_convs.{level}:output",
            f"decode_head.lateral_convs.{level}:output",
            (f"decode_head.lateral_convs.{level}.*",),
        )
        for level in range(len(spec.out_indices) - 1)
    ]
    points += [
        CapturePoint(
            "pooled_pyramid",
            "decode_head.bottleneck:output",
            f"{pooling}:output",
            ("decode_head.psp_modules.*", "decode_head.bottleneck.*"),
        ),
        CapturePoint(
            "decoded",
            "decode_head.conv_seg:input",
            "decode_head.classifier:input",
            ("decode_head.fpn_convs.*", "decode_head.fpn_bottleneck.*"),
        ),
        CapturePoint("logits", "decode_head:output", ":logits", ("decode_head.conv_seg.*",)),
    ]
    if spec.auxiliary_channels:
        points.append(
            CapturePoint("auxiliary_logits", "auxiliary_head:output", "auxiliary_head:output", ("auxiliary_head.*",))
        )
    return points


def find_deviation(spec: Data2VecVisionSpec, shape: tuple[int, ...]) -> Deviation | None:
    """The ledger's entry that applies to an input of this shape, if one does."""
    return FEATURE_LAYOUT if spec.task == "semantic-segmentation" and shape[0] > 1 else None
