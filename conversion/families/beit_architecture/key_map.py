"""BEiT's architecture: where each original tensor goes in the on-disk layout of transformers.

The names of backbone and classifier are the same in transformers 4 and 5. Those of the segmentation heads are the same
in BEiT, and others in Data2Vec-Vision.
A table per feature; :func:`select_key_map` lays together those that a model has.
"""

from conversion.families.beit_architecture.config import BeitLikeSpec
from conversion.mapping.key_map import KeyMap, add_parameters, add_prefix

ENCODER: KeyMap = {
    # embeddings
    "cls_token":                    "embeddings.cls_token",
    **add_parameters({
        "patch_embed.proj":         "embeddings.patch_embeddings.projection",
    # attention; the rows of the fused projection are query, then key, then value, and key has no bias
        "blocks.{}.norm1":          "encoder.layer.{}.layernorm_before",
    }),
    "blocks.{}.attn.qkv.weight":   ("encoder.layer.{}.attention.attention.query.weight",
                                    "encoder.layer.{}.attention.attention.key.weight",
                                    "encoder.layer.{}.attention.attention.value.weight"),
    "blocks.{}.attn.q_bias":        "encoder.layer.{}.attention.attention.query.bias",
    "blocks.{}.attn.v_bias":        "encoder.layer.{}.attention.attention.value.bias",
    **add_parameters({
        "blocks.{}.attn.proj":      "encoder.layer.{}.attention.output.dense",
    }),
    "blocks.{}.gamma_1":            "encoder.layer.{}.lambda_1",
    # feed-forward
    **add_parameters({
        "blocks.{}.norm2":          "encoder.layer.{}.layernorm_after",
        "blocks.{}.mlp.fc1":        "encoder.layer.{}.intermediate.dense",
        "blocks.{}.mlp.fc2":        "encoder.layer.{}.output.dense",
    }),
    "blocks.{}.gamma_2":            "encoder.layer.{}.lambda_2",
}  # fmt: skip

MASK_TOKEN: KeyMap = {
    "mask_token":                   "embeddings.mask_token",
}  # fmt: skip

ABSOLUTE_POSITIONS: KeyMap = {
    "pos_embed":                    "embeddings.position_embeddings",
}  # fmt: skip

SHARED_POSITION_BIAS: KeyMap = {
    "rel_pos_bias.relative_position_bias_table":
        "encoder.relative_position_bias.relative_position_bias_table",
}  # fmt: skip

BLOCK_POSITION_BIAS: KeyMap = {
    "blocks.{}.attn.relative_position_bias_table":
        "encoder.layer.{}.attention.attention.relative_position_bias.relative_position_bias_table",
}  # fmt: skip

FINAL_NORM: KeyMap = add_parameters({"norm": "layernorm"})
POOLING_NORM: KeyMap = add_parameters({"fc_norm": "pooler.layernorm"})
WORDS: KeyMap = add_parameters({"norm": "layernorm", "lm_head": "lm_head"})
"""The head of masked image modeling, with the final norm: transformers has both outside of the backbone."""

CLASSIFIER: KeyMap = add_parameters({"head": "classifier"})
DECODE_HEAD: KeyMap = add_parameters({"decode_head.conv_seg": "decode_head.classifier"})
AUXILIARY_HEAD: KeyMap = add_parameters({"auxiliary_head.conv_seg": "auxiliary_head.classifier"})

PYRAMID: KeyMap = {
    **add_parameters({
        "backbone.fpn1.0":          "fpn1.0",
        "backbone.fpn1.1":          "fpn1.1",
    }),
    "backbone.fpn1.1.running_mean": "fpn1.1.running_mean",
    "backbone.fpn1.1.running_var":  "fpn1.1.running_var",
    "backbone.fpn1.1.num_batches_tracked": "fpn1.1.num_batches_tracked",
    **add_parameters({
        "backbone.fpn1.3":          "fpn1.3",
        "backbone.fpn2.0":          "fpn2.0",
    }),
}  # fmt: skip

# the heads' modules of convolution and batch norm; "{}" counts from 0
# original                          transformers 4                      transformers 5
POOLING_MODULES = {
    "decode_head.psp_modules.{}.1":  ("decode_head.psp_modules.{}.1",   "decode_head.psp_modules.blocks.{}.conv"),
}  # fmt: skip
LEVEL_MODULES = {
    "decode_head.lateral_convs.{}":  ("decode_head.lateral_convs.{}",   "decode_head.lateral_convs.{}"),
    "decode_head.fpn_convs.{}":      ("decode_head.fpn_convs.{}",       "decode_head.fpn_convs.{}"),
}  # fmt: skip
DECODE_MODULES = {
    "decode_head.bottleneck":        ("decode_head.bottleneck",         "decode_head.psp_bottleneck"),
    "decode_head.fpn_bottleneck":    ("decode_head.fpn_bottleneck",     "decode_head.fpn_bottleneck"),
}  # fmt: skip
AUXILIARY_MODULES = {
    "auxiliary_head.convs.0":        ("auxiliary_head.convs.0",         "auxiliary_head.convs.0"),
}  # fmt: skip

# the tensors of each
MODULE_TENSORS = {
    "conv.weight":                   ("conv.weight",                    "convolution.weight"),
    "bn.weight":                     ("bn.weight",                      "normalization.weight"),
    "bn.bias":                       ("bn.bias",                        "normalization.bias"),
    "bn.running_mean":               ("bn.running_mean",                "normalization.running_mean"),
    "bn.running_var":                ("bn.running_var",                 "normalization.running_var"),
    "bn.num_batches_tracked":        ("bn.num_batches_tracked",         "normalization.num_batches_tracked"),
}  # fmt: skip

# rows that not every model has, to the field of the spec that says whether it does
SWITCHED = {
    "blocks.{}.attn.q_bias":        "qkv_bias",
    "blocks.{}.attn.v_bias":        "qkv_bias",
    "blocks.{}.gamma_1":            "layer_scale",
    "blocks.{}.gamma_2":            "layer_scale",
}  # fmt: skip

# pattern: reason
DROPPED = {
    "*.relative_position_index": "follows from the window's size; transformers computes it itself",
}


def select_key_map(spec: BeitLikeSpec, major: int) -> KeyMap:
    """Select the rows that a model of this spec has, in the layout of a major version of transformers."""
    has_words = spec.task == "masked-image-modeling"
    features: list[tuple[bool, KeyMap]] = [
        (True, ENCODER),
        (spec.mask_token, MASK_TOKEN),
        (spec.absolute_positions, ABSOLUTE_POSITIONS),
        (spec.shared_position_bias, SHARED_POSITION_BIAS),
        (spec.block_position_bias, BLOCK_POSITION_BIAS),
        (not spec.mean_pooling and not has_words, FINAL_NORM),
        (spec.task == "image-classification" and spec.mean_pooling, POOLING_NORM),
    ]
    backbone = {
        spec.original_prefix + source: add_prefix(spec.hf_prefix, target)
        for is_there, rows in features
        if is_there
        for source, target in rows.items()
        if source not in SWITCHED or getattr(spec, SWITCHED[source])
    }
    heads: dict[str, KeyMap] = {
        "backbone": {},
        "masked-image-modeling": WORDS,
        "image-classification": CLASSIFIER if spec.num_classes else {},
        "semantic-segmentation": select_heads(spec, major),
    }
    return {**backbone, **heads[spec.task]}


def select_heads(spec: BeitLikeSpec, major: int) -> KeyMap:
    """Select the rows of the feature pyramid and the segmentation heads."""
    column = 0 if major < 5 else 1
    modules = {
        source.format(index): targets[column].format(index)
        for table, count in ((POOLING_MODULES, len(spec.pool_scales)), (LEVEL_MODULES, len(spec.out_indices) - 1))
        for source, targets in table.items()
        for index in range(count)
    }
    single = DECODE_MODULES | (AUXILIARY_MODULES if spec.auxiliary_channels else {})
    modules |= {source: targets[column] for source, targets in single.items()}
    tensors = {
        f"{source}.{tensor}": f"{target}.{targets[column]}"
        for source, target in modules.items()
        for tensor, targets in MODULE_TENSORS.items()
    }
    return {**PYRAMID, **DECODE_HEAD, **(AUXILIARY_HEAD if spec.auxiliary_channels else {}), **tensors}
