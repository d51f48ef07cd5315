"""DINOv3: where each original tensor goes in the on-disk layout of transformers.

The on-disk names are the same in transformers 4 and 5. An empty name is a part that transformers has no place for.
"""

from conversion.families.dinov3.config import Dinov3Spec
from conversion.mapping.key_map import KeyMap, WithAxis, add_parameters

KEY_MAP: KeyMap = {
    # embeddings
    "cls_token":                     "embeddings.cls_token",
    "storage_tokens":                "embeddings.register_tokens",
    "mask_token":                     WithAxis("embeddings.mask_token"),
    **add_parameters({
        "patch_embed.proj":          "embeddings.patch_embeddings",
    }),
    "rope_embed.periods":            "",
    # attention; the rows of the fused projection are query, then key, then value
    **add_parameters({
        "blocks.{}.norm1":           "layer.{}.norm1",
    }),
    "blocks.{}.attn.qkv.weight":    ("layer.{}.attention.q_proj.weight",
                                     "layer.{}.attention.k_proj.weight",
                                     "layer.{}.attention.v_proj.weight"),
    "blocks.{}.attn.qkv.bias":      ("layer.{}.attention.q_proj.bias",
                                     "",
                                     "layer.{}.attention.v_proj.bias"),
    "blocks.{}.attn.qkv.bias_mask":  "",
    **add_parameters({
        "blocks.{}.attn.proj":       "layer.{}.attention.o_proj",
    }),
    "blocks.{}.ls1.gamma":           "layer.{}.layer_scale1.lambda1",
    # feed-forward
    **add_parameters({
        "blocks.{}.norm2":           "layer.{}.norm2",
    }),
    "blocks.{}.ls2.gamma":           "layer.{}.layer_scale2.lambda1",
    # final norm, and the one that training has for local crops
    **add_parameters({
        "norm":                      "norm",
    }),
    "local_cls_norm.weight":         "",
    "local_cls_norm.bias":           "",
}  # fmt: skip

KEY_BIAS: KeyMap = {
    "blocks.{}.attn.qkv.bias":      ("layer.{}.attention.q_proj.bias",
                                     "layer.{}.attention.k_proj.bias",
                                     "layer.{}.attention.v_proj.bias"),
}  # fmt: skip

MLP: KeyMap = add_parameters({
    "blocks.{}.mlp.fc1":             "layer.{}.mlp.up_proj",
    "blocks.{}.mlp.fc2":             "layer.{}.mlp.down_proj",
})  # fmt: skip

SWIGLU: KeyMap = add_parameters({
    "blocks.{}.mlp.w1":              "layer.{}.mlp.gate_proj",
    "blocks.{}.mlp.w2":              "layer.{}.mlp.up_proj",
    "blocks.{}.mlp.w3":              "layer.{}.mlp.down_proj",
})  # fmt: skip

# rows that not every model has, to the field of the spec that says whether it does
SWITCHED = {
    "storage_tokens":                "storage_tokens",
    "mask_token":                    "mask_token",
    "blocks.{}.attn.qkv.bias":       "qkv_bias",
    "blocks.{}.attn.qkv.bias_mask":  "masks_key_bias",
    "blocks.{}.attn.proj.bias":      "proj_bias",
    "blocks.{}.mlp.fc1.bias":        "ffn_bias",
    "blocks.{}.mlp.fc2.bias":        "ffn_bias",
    "blocks.{}.mlp.w1.bias":         "ffn_bias",
    "blocks.{}.mlp.w2.bias":         "ffn_bias",
    "blocks.{}.mlp.w3.bias":         "ffn_bias",
    "blocks.{}.ls1.gamma":           "layer_scale",
    "blocks.{}.ls2.gamma":           "layer_scale",
    "local_cls_norm.weight":         "local_cls_norm",
    "local_cls_norm.bias":           "local_cls_norm",
}  # fmt: skip

# pattern: reason
DROPPED = {
    "dino_head.*": "projection head of the DINO loss, used in training only",
    "ibot_head.*": "projection head of the iBOT loss, used in training only",
}

# pattern: reason
UNPLACED = {
    "rope_embed.periods": "transformers computes the periods of rotary positions itself",
    "*.attn.qkv.bias_mask": "masks key's bias; transformers' config says that key has none",
    "*.attn.qkv.bias": "key's third of the fused bias is masked, and transformers' model has no place for it",
    "local_cls_norm.*": "norm of the class token of local crops, used in training only",
}


def select_key_map(spec: Dinov3Spec, _major: int) -> KeyMap:
    """Select the rows that a model of this spec has, in any major version."""
    rows = {**KEY_MAP, **(KEY_BIAS if spec.key_bias else {}), **(SWIGLU if spec.is_gated else MLP)}
    return {
        source: target for source, target in rows.items() if source not in SWITCHED or getattr(spec, SWITCHED[source])
    }
