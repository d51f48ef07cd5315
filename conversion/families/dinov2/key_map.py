"""DINOv2: where each original tensor goes in the on-disk layout of transformers.

The on-disk names are those of transformers 4; transformers 5 renames in memory only, and reads and writes these.
A table per feature; :func:`select_key_map` lays together those that a model has.
"""

from conversion.families.dinov2.config import Dinov2Spec
from conversion.mapping.key_map import KeyMap, add_prefix

KEY_MAP: KeyMap = {
    # embeddings
    "cls_token":                    "embeddings.cls_token",
    "mask_token":                   "embeddings.mask_token",
    "pos_embed":                    "embeddings.position_embeddings",
    "patch_embed.proj.weight":      "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias":        "embeddings.patch_embeddings.projection.bias",
    # attention; the rows of the fused projection are query, then key, then value
    "blocks.{}.norm1.weight":       "encoder.layer.{}.norm1.weight",
    "blocks.{}.norm1.bias":         "encoder.layer.{}.norm1.bias",
    "blocks.{}.attn.qkv.weight":   ("encoder.layer.{}.attention.attention.query.weight",
                                    "encoder.layer.{}.attention.attention.key.weight",
                                    "encoder.layer.{}.attention.attention.value.weight"),
    "blocks.{}.attn.qkv.bias":     ("encoder.layer.{}.attention.attention.query.bias",
                                    "encoder.layer.{}.attention.attention.key.bias",
                                    "encoder.layer.{}.attention.attention.value.bias"),
    "blocks.{}.attn.proj.weight":   "encoder.layer.{}.attention.output.dense.weight",
    "blocks.{}.attn.proj.bias":     "encoder.layer.{}.attention.output.dense.bias",
    "blocks.{}.ls1.gamma":          "encoder.layer.{}.layer_scale1.lambda1",
    # feed-forward
    "blocks.{}.norm2.weight":       "encoder.layer.{}.norm2.weight",
    "blocks.{}.norm2.bias":         "encoder.layer.{}.norm2.bias",
    "blocks.{}.ls2.gamma":          "encoder.layer.{}.layer_scale2.lambda1",
    # final norm
    "norm.weight":                  "layernorm.weight",
    "norm.bias":                    "layernorm.bias",
}  # fmt: skip

REGISTERS: KeyMap = {
    "register_tokens":              "embeddings.register_tokens",
}  # fmt: skip

MLP: KeyMap = {
    "blocks.{}.mlp.fc1.weight":     "encoder.layer.{}.mlp.fc1.weight",
    "blocks.{}.mlp.fc1.bias":       "encoder.layer.{}.mlp.fc1.bias",
    "blocks.{}.mlp.fc2.weight":     "encoder.layer.{}.mlp.fc2.weight",
    "blocks.{}.mlp.fc2.bias":       "encoder.layer.{}.mlp.fc2.bias",
}  # fmt: skip

SWIGLU: KeyMap = {
    "blocks.{}.mlp.w12.weight":     "encoder.layer.{}.mlp.weights_in.weight",
    "blocks.{}.mlp.w12.bias":       "encoder.layer.{}.mlp.weights_in.bias",
    "blocks.{}.mlp.w3.weight":      "encoder.layer.{}.mlp.weights_out.weight",
    "blocks.{}.mlp.w3.bias":        "encoder.layer.{}.mlp.weights_out.bias",
}  # fmt: skip

LINEAR_HEAD: KeyMap = {
    "linear_head.weight":           "classifier.weight",
    "linear_head.bias":             "classifier.bias",
}  # fmt: skip

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
    """The rows that a model of this spec has, in any major version; a classifier's backbone has a prefix of its own."""
    backbone = {
        **KEY_MAP,
        **(SWIGLU if spec.ffn == "swiglu" else MLP),
        **(REGISTERS if spec.num_register_tokens else {}),
    }
    prefixed = {
        source: add_prefix(spec.hf_prefix, target)
        for source, target in backbone.items()
        if source not in SWITCHED or getattr(spec, SWITCHED[source])
    }
    return {**prefixed, **(LINEAR_HEAD if spec.num_classes else {})}
