"""DINOv2: where each original tensor goes in the on-disk layout of transformers.

The on-disk names are those of transformers 4; transformers 5 renames in memory only, and reads and writes these.
A table per feature; :func:`select_key_map` lays together those that a model has.
"""

from conversion.families.dinov2.config import Dinov2Spec
from conversion.mapping.key_map import KeyMap, add_parameters, add_prefix

KEY_MAP: KeyMap = {
    # embeddings
    "cls_token":                "embeddings.cls_token",
    "mask_token":               "embeddings.mask_token",
    "pos_embed":                "embeddings.position_embeddings",
    **add_parameters({
        "patch_embed.proj":     "embeddings.patch_embeddings.projection",
    # attention; the rows of the fused projection are query, then key, then value
        "blocks.{}.norm1":      "encoder.layer.{}.norm1",
        "blocks.{}.attn.qkv":  ("encoder.layer.{}.attention.attention.query",
                                "encoder.layer.{}.attention.attention.key",
                                "encoder.layer.{}.attention.attention.value"),
        "blocks.{}.attn.proj":  "encoder.layer.{}.attention.output.dense",
    }),
    "blocks.{}.ls1.gamma":      "encoder.layer.{}.layer_scale1.lambda1",
    # feed-forward
    **add_parameters({
        "blocks.{}.norm2":      "encoder.layer.{}.norm2",
    }),
    "blocks.{}.ls2.gamma":      "encoder.layer.{}.layer_scale2.lambda1",
    # final norm
    **add_parameters({
        "norm":                 "layernorm",
    }),
}  # fmt: skip

REGISTERS: KeyMap = {
    "register_tokens":          "embeddings.register_tokens",
}  # fmt: skip

MLP: KeyMap = add_parameters({
    "blocks.{}.mlp.fc1":        "encoder.layer.{}.mlp.fc1",
    "blocks.{}.mlp.fc2":        "encoder.layer.{}.mlp.fc2",
})  # fmt: skip

SWIGLU: KeyMap = add_parameters({
    "blocks.{}.mlp.w12":        "encoder.layer.{}.mlp.weights_in",
    "blocks.{}.mlp.w3":         "encoder.layer.{}.mlp.weights_out",
})  # fmt: skip

LINEAR_HEAD: KeyMap = add_parameters({
    "linear_head":              "classifier",
})  # fmt: skip

# rows that not every model has, to the field of the spec that says whether it does
SWITCHED = {
    "mask_token":                   "mask_token",
    "blocks.{}.attn.qkv.bias":      "qkv_bias",
    "blocks.{}.attn.proj.bias":     "proj_bias",
    "blocks.{}.mlp.fc1.bias":       "ffn_bias",
    "blocks.{}.mlp.fc2.bias":       "ffn_bias",
    "blocks.{}.mlp.w12.bias":       "ffn_bias",
    "blocks.{}.mlp.w3.bias":        "ffn_bias",
    "blocks.{}.ls1.gamma":          "layer_scale",
    "blocks.{}.ls2.gamma":          "layer_scale",
}  # fmt: skip

# pattern: reason
DROPPED = {
    "dino_head.*": "projection head of the DINO loss, used in training only",
    "ibot_head.*": "projection head of the iBOT loss, used in training only",
    "dino_loss.*": "running mean of the DINO loss, used in training only",
    "ibot_patch_loss.*": "running mean of the iBOT loss, used in training only",
}


def select_key_map(spec: Dinov2Spec, _major: int) -> KeyMap:
    """Select the rows that a model of this spec has, in any major version; a classifier's backbone has a prefix."""
    backbone = {
        **KEY_MAP,
        **(SWIGLU if spec.ffn == "swiglu" else MLP),
        **(REGISTERS if spec.num_register_tokens else {}),
    }
    prefixed = {
        spec.original_prefix + source: add_prefix(spec.hf_prefix, target)
        for source, target in backbone.items()
        if source not in SWITCHED or getattr(spec, SWITCHED[source])
    }
    return {**prefixed, **(LINEAR_HEAD if spec.num_classes else {})}
