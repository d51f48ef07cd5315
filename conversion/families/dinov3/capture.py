"""DINOv3: where original and transformers model carry the same values."""

from conversion.families.dinov3.config import Dinov3Spec
from conversion.families.target import transformers_major
from conversion.parity.points import OUTPUT, CapturePoint, Stage, build_block, build_place

EXACT = frozenset({("cpu", "float32", "sdpa"), ("cpu", "float64", "sdpa")})
"""Where bit for bit equality was reached: device type, dtype, attention."""

EMBEDDINGS = ("cls_token", "patch_embed.proj.*", "storage_tokens", "mask_token")

# of a block: point original                 transformers                keys
ATTENTION = (
    ("norm1",     "norm1:output",         "norm1:output",             "norm1.*"),
    ("q",         "attn.qkv:output[0/3]", "attention.q_proj:output",  "attn.qkv.*"),
    ("k",         "attn.qkv:output[1/3]", "attention.k_proj:output",  "attn.qkv.*"),
    ("v",         "attn.qkv:output[2/3]", "attention.v_proj:output",  "attn.qkv.*"),
    ("attention", "attn:output",          "attention:output",         "attn.proj.*"),
    ("residual1", "norm2:input",          "norm2:input",              "ls1.*"),
    ("norm2",     "norm2:output",         "norm2:output",             "norm2.*"),
)  # fmt: skip
MLP = (
    ("mlp",       "mlp:output",           "mlp:output",               "mlp.*"),
)  # fmt: skip
SWIGLU = (
    ("gate",      "mlp.w1:output",        "mlp.gate_proj:output",     "mlp.w1.*"),
    ("up",        "mlp.w2:output",        "mlp.up_proj:output",       "mlp.w2.*"),
    ("mlp",       "mlp:output",           "mlp:output",               "mlp.w3.*"),
)  # fmt: skip
ROTARY = {"attention": ("/rope_embed.periods",)}
"""Of the whole model, what enters at a point of a block, too."""

RESIDUAL = (
    ("",          ":output",              ":output",                  "ls2.*"),
)  # fmt: skip
RETURNED = (
    CapturePoint("returned.last_hidden_state", "norm:output", ":last_hidden_state", ()),
    CapturePoint("returned.pooled", ":x_norm_clstoken", ":pooler_output", ()),
)


def list_stages(spec: Dinov3Spec, *, masked: bool = False) -> list[Stage]:  # noqa: ARG001, the same points
    """List every capture point, stage by stage in the order of the computation."""
    layers = "layer" if transformers_major() < 5 else "model.layer"
    table = ATTENTION + (SWIGLU if spec.is_gated else MLP) + RESIDUAL
    rows = [(name, original, hf, (keys, *ROTARY.get(name, ()))) for name, original, hf, keys in table]
    return [
        build_place("pixels", "patch_embed.proj:input", "embeddings.patch_embeddings:input"),
        build_place("embeddings", "blocks.0:input", f"{layers}.0:input", EMBEDDINGS),
        *(build_block(f"block.{i}", rows, f"blocks.{i}", f"{layers}.{i}") for i in range(spec.depth)),
        build_block("norm", OUTPUT, "norm", "norm"),
        Stage("returned", RETURNED),
    ]
