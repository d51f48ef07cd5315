"""Data2Vec-Vision: where original and transformers model carry the same values."""

from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.data2vec_vision.key_map import (
    AUXILIARY_MODULES,
    DECODE_MODULES,
    LEVEL_MODULES,
    POOLING_MODULES,
)
from conversion.families.target import transformers_major
from conversion.parity.points import OUTPUT, Stage, build_block, build_place

EXACT = frozenset({("cpu", "float32", "eager")})
"""Where bit for bit equality was reached: device type, dtype, attention."""

EMBEDDINGS = ("cls_token", "mask_token", "pos_embed", "patch_embed.proj.*")

# of a block: point        original                 transformers                         keys
BLOCK = (
    ("norm1",     "norm1:output",           "layernorm_before:output",           ("norm1.*",)),
    ("q",         "attn.qkv:output[0/3]",   "attention.attention.query:output",  ("attn.qkv.*", "attn.q_bias")),
    ("k",         "attn.qkv:output[1/3]",   "attention.attention.key:output",    ("attn.qkv.*",)),
    ("v",         "attn.qkv:output[2/3]",   "attention.attention.value:output",  ("attn.qkv.*", "attn.v_bias")),
    ("attention", "attn:output",            "attention:output",                  ("attn.proj.*",
                                                                                  "attn.relative_position_bias_table",
                                                                                  "/rel_pos_bias.*")),
    ("residual1", "norm2:input",            "layernorm_after:input",             ("gamma_1",)),
    ("norm2",     "norm2:output",           "layernorm_after:output",            ("norm2.*",)),
    ("mlp",       "mlp:output",             "output:output",                     ("mlp.*",)),
    ("",          ":output",                ":output",                           ("gamma_2",)),
)  # fmt: skip

# of the first scale of the feature pyramid; outputs do not show how many batches a norm has seen in training
FIRST_SCALE = (
    ("batches",   "1:num_batches_tracked",  "1:num_batches_tracked",             ("1.num_batches_tracked",)),
    *OUTPUT,
)  # fmt: skip

# of a convolution with batch norm and ReLU; its output does not show the channels that the ReLU closes
#                 original                  transformers 4                       transformers 5
CONVOLUTION = (
    ("batches",   "bn:num_batches_tracked", "bn:num_batches_tracked", "normalization:num_batches_tracked"),
    ("norm",      "bn:output",              "bn:output",              "normalization:output"),
    ("",          ":output",                ":output",                ":output"),
)  # fmt: skip


def list_stages(spec: Data2VecVisionSpec, *, masked: bool = False) -> list[Stage]:
    """List every capture point, stage by stage in the order of the computation.

    Args:
        masked: for a masked input, which a transformers model with a head does not take: its backbone's points only.
    """
    hf, original = spec.hf_prefix, spec.original_prefix
    embeddings = tuple(original + key for key in EMBEDDINGS)
    stages = [
        build_place("pixels", f"{original}patch_embed.proj:input", f"{hf}embeddings.patch_embeddings.projection:input"),
        build_place("embeddings", f"{original}blocks.0:input", f"{hf}encoder.layer.0:input", embeddings),
        *(
            build_block(f"block.{i}", BLOCK, f"{original}blocks.{i}", f"{hf}encoder.layer.{i}", original)
            for i in range(spec.depth)
        ),
    ]
    if not spec.mean_pooling:
        stages.append(build_block("norm", OUTPUT, "norm", f"{hf}layernorm"))
    if masked or spec.task == "backbone":
        last = "norm:output" if not spec.mean_pooling else f"{original}blocks.{spec.depth - 1}:output"
        return [*stages, build_place("returned.last_hidden_state", last, ":last_hidden_state")]
    heads = _list_segmentation_stages(spec) if spec.task == "semantic-segmentation" else _list_classifier_stages(spec)
    return [*stages, *heads, build_place("returned.logits", ":logits", ":logits")]


def _list_classifier_stages(spec: Data2VecVisionSpec) -> list[Stage]:
    keys = ("fc_norm.*",) if spec.mean_pooling else ()
    pooled = build_place("pooled", "head:input", "classifier:input", keys)
    return [pooled, build_block("logits", OUTPUT, "head", "classifier")]


def _list_segmentation_stages(spec: Data2VecVisionSpec) -> list[Stage]:
    column = 0 if transformers_major() < 5 else 1
    rows = [(name, original, hf[column], ("*",)) for name, original, *hf in CONVOLUTION]

    def convolution(name: str, table: dict[str, tuple[str, str]], module: str, index: int | str = "") -> Stage:
        return build_block(name, rows, module.format(index), table[module][column].format(index))

    levels = range(len(spec.out_indices) - 1)
    stages = [
        build_block(f"feature.{i}", FIRST_SCALE if i == 0 else OUTPUT, f"backbone.fpn{i + 1}", f"fpn{i + 1}")
        for i in range(len(spec.out_indices))
    ]
    stages += [convolution(f"lateral.{i}", LEVEL_MODULES, "decode_head.lateral_convs.{}", i) for i in levels]
    stages += [
        convolution(f"scale.{i}", POOLING_MODULES, "decode_head.psp_modules.{}.1", i)
        for i in range(len(spec.pool_scales))
    ]
    stages.append(convolution("pooled_pyramid", DECODE_MODULES, "decode_head.bottleneck"))
    stages += [convolution(f"level.{i}", LEVEL_MODULES, "decode_head.fpn_convs.{}", i) for i in levels]
    stages.append(convolution("decoded", DECODE_MODULES, "decode_head.fpn_bottleneck"))
    stages.append(build_block("logits", OUTPUT, "decode_head.conv_seg", "decode_head.classifier"))
    if spec.auxiliary_channels:
        stages.append(convolution("auxiliary", AUXILIARY_MODULES, "auxiliary_head.convs.0"))
        stages.append(build_block("auxiliary_logits", OUTPUT, "auxiliary_head.conv_seg", "auxiliary_head.classifier"))
    return stages
