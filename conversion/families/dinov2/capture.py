"""DINOv2: where original and transformers model carry the same values."""

from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.target import transformers_major
from conversion.parity.points import OUTPUT, CapturePoint, Stage, build_block, build_place, build_unused

EXACT = frozenset({("cpu", "float32", "sdpa"), ("cpu", "float64", "sdpa")})
"""Where bit for bit equality was reached: device type, dtype, attention."""

EMBEDDINGS = ("cls_token", "pos_embed", "patch_embed.proj.*", "register_tokens", "mask_token")

# of a block: point original                 transformers 4                      5                          keys
ATTENTION = (
    ("norm1",     "norm1:output",         "norm1:output",                     "norm1:output",            "norm1.*"),
    ("q",         "attn.qkv:output[0/3]", "attention.attention.query:output", "attention.q_proj:output", "attn.qkv.*"),
    ("k",         "attn.qkv:output[1/3]", "attention.attention.key:output",   "attention.k_proj:output", "attn.qkv.*"),
    ("v",         "attn.qkv:output[2/3]", "attention.attention.value:output", "attention.v_proj:output", "attn.qkv.*"),
    ("attention", "attn:output",          "attention:output",                 "attention:output",        "attn.proj.*"),
    ("residual1", "norm2:input",          "norm2:input",                      "norm2:input",             "ls1.*"),
    ("norm2",     "norm2:output",         "norm2:output",                     "norm2:output",            "norm2.*"),
)  # fmt: skip
MLP = (
    ("mlp",       "mlp:output",           "mlp:output",                       "mlp:output",              "mlp.*"),
)  # fmt: skip
SWIGLU = (
    ("gate",      "mlp.w12:output[0/2]",  "mlp.weights_in:output[0/2]",       "mlp.gate_proj:output",    "mlp.w12.*"),
    ("up",        "mlp.w12:output[1/2]",  "mlp.weights_in:output[1/2]",       "mlp.up_proj:output",      "mlp.w12.*"),
    ("mlp",       "mlp:output",           "mlp:output",                       "mlp:output",              "mlp.w3.*"),
)  # fmt: skip
RESIDUAL = (
    ("",          ":output",              ":output",                          ":output",                 "ls2.*"),
)  # fmt: skip
RETURNED = (
    CapturePoint("returned.last_hidden_state", "norm:output", ":last_hidden_state", ()),
    CapturePoint("returned.pooled", ":x_norm_clstoken", ":pooler_output", ()),
)


def list_backbone_stages(spec: Dinov2Spec) -> list[Stage]:
    """List the capture points up to the output of the last block, stage by stage in the order of the computation."""
    original, hf, column = spec.original_prefix, spec.hf_prefix, 1 if transformers_major() < 5 else 2
    table = ATTENTION + (SWIGLU if spec.ffn == "swiglu" else MLP) + RESIDUAL
    rows = [(name, places[0], places[column], (keys,)) for name, *places, keys in table]
    embeddings = tuple(original + key for key in EMBEDDINGS)
    pixels = f"{hf}embeddings.patch_embeddings.projection:input"
    return [
        build_place("pixels", f"{original}patch_embed.proj:input", pixels),
        build_place("embeddings", f"{original}blocks.0:input", f"{hf}encoder.layer.0:input", embeddings),
        *(
            build_block(f"block.{i}", rows, f"{original}blocks.{i}", f"{hf}encoder.layer.{i}")
            for i in range(spec.depth)
        ),
    ]


def _list_features(spec: Dinov2Spec) -> list[Stage]:
    """What a feature backbone returns; and the final norm, where it has it and makes no use of it."""
    unused = {} if spec.apply_layernorm else {"norm:weight": "layernorm:weight", "norm:bias": "layernorm:bias"}
    sources = ("norm.*",) if spec.apply_layernorm else ()
    features = tuple(
        CapturePoint(f"returned.feature.{index}", f":feature_maps({index})", f":feature_maps({index})", sources)
        for index in range(len(spec.out_indices))
    )
    return [build_unused(unused), Stage("returned", features)]


def list_stages(spec: Dinov2Spec, *, masked: bool = False) -> list[Stage]:
    """List every capture point, stage by stage in the order of the computation.

    Args:
        masked: for a masked input, which a transformers classifier's head does not take: its backbone's points only.
    """
    if spec.out_indices:
        return [*list_backbone_stages(spec), *_list_features(spec)]
    stages = [*list_backbone_stages(spec), build_block("norm", OUTPUT, "norm", f"{spec.hf_prefix}layernorm")]
    if spec.num_classes and not masked:
        return [
            *stages,
            build_place("pooled", "linear_head:input", "classifier:input"),
            build_block("logits", OUTPUT, "linear_head", "classifier"),
            build_place("returned.logits", ":logits", ":logits"),
        ]
    return [*stages, Stage("returned", RETURNED)]
