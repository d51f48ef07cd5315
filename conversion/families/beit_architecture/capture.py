"""BEiT's architecture: where original and transformers model carry the same values."""

from collections.abc import Iterable
from dataclasses import dataclass

from conversion.families.beit_architecture.config import BeitLikeSpec
from conversion.families.beit_architecture.key_map import (
    AUXILIARY_MODULES,
    DECODE_MODULES,
    LEVEL_MODULES,
    POOLING_MODULES,
)
from conversion.families.target import transformers_major
from conversion.parity.points import OUTPUT, Stage, build_block, build_place

EXACT = frozenset({("cpu", "float32", "eager")})
"""Where bit for bit equality was reached, of either family: device type, dtype, attention."""

Row = tuple[str, str, str, tuple[str, ...]]

EMBEDDINGS = ("cls_token", "mask_token", "pos_embed", "patch_embed.proj.*")


@dataclass(frozen=True)
class Modules:
    """How transformers names modules in memory; on disk they have other names.

    Attributes:
        blocks: the list of blocks, in the backbone.
        query, key, value, mlp: of a block, the modules with these outputs.
        features: of the feature pyramid, each scale's module; a place where there is none, for a feature that is not
            scaled.
        first_norm: batch norm of the first scale.
    """

    blocks: str
    query: str
    key: str
    value: str
    mlp: str
    features: tuple[str, ...]
    first_norm: str


NESTED = Modules(
    blocks="encoder.layer",
    query="attention.attention.query",
    key="attention.attention.key",
    value="attention.attention.value",
    mlp="output",
    features=("fpn1", "fpn2", "fpn3", "fpn4"),
    first_norm="1",
)
FLAT = Modules(
    blocks="layers",
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    mlp="mlp",
    features=("fpn.fpn1", "fpn.fpn2", "decode_head.lateral_convs.2:input", "fpn.fpn4"),
    first_norm="normalization",
)

# of a block: point        original                 transformers                keys
BLOCK = (
    ("norm1",     "norm1:output",           "layernorm_before:output",  ("norm1.*",)),
    ("q",         "attn.qkv:output[0/3]",   "{query}:output",           ("attn.qkv.*", "attn.q_bias")),
    ("k",         "attn.qkv:output[1/3]",   "{key}:output",             ("attn.qkv.*",)),
    ("v",         "attn.qkv:output[2/3]",   "{value}:output",           ("attn.qkv.*", "attn.v_bias")),
    ("attention", "attn:output",            "attention:output",         ("attn.proj.*",
                                                                         "attn.relative_position_bias_table",
                                                                         "/rel_pos_bias.*")),
    ("residual1", "norm2:input",            "layernorm_after:input",    ("gamma_1",)),
    ("norm2",     "norm2:output",           "layernorm_after:output",   ("norm2.*",)),
    ("mlp",       "mlp:output",             "{mlp}:output",             ("mlp.*",)),
    ("",          ":output",                ":output",                  ("gamma_2",)),
)  # fmt: skip

# of the first scale of the feature pyramid; outputs do not show how many batches a norm has seen in training
FIRST_SCALE = (
    ("batches",   "1:num_batches_tracked",  "{first_norm}:num_batches_tracked", ("1.num_batches_tracked",)),
    *OUTPUT,
)  # fmt: skip

# of a convolution with batch norm and ReLU; its output does not show the channels that the ReLU closes
#                 original                  transformers 4                       transformers 5
CONVOLUTION = (
    ("batches",   "bn:num_batches_tracked", "bn:num_batches_tracked", "normalization:num_batches_tracked"),
    ("norm",      "bn:output",              "bn:output",              "normalization:output"),
    ("",          ":output",                ":output",                ":output"),
)  # fmt: skip


RETURNED_LOGITS = build_place("returned.logits", ":logits", ":logits")

# of masked image modeling, whose final norm lies outside of transformers' backbone
HEAD_OF_WORDS = (
    build_block("norm", OUTPUT, "norm", "layernorm"),
    build_block("logits", OUTPUT, "lm_head", "lm_head"),
    RETURNED_LOGITS,
)


def list_stages(spec: BeitLikeSpec, *, masked: bool = False, modules: Modules = NESTED) -> list[Stage]:
    """List every capture point, stage by stage in the order of the computation.

    Args:
        masked: for a masked input, which no transformers model with a head takes but that of masked image modeling:
            the points of its backbone only.
        modules: how transformers names them.
    """
    hf, original = spec.hf_prefix, spec.original_prefix
    embeddings = tuple(original + key for key in EMBEDDINGS)
    blocks = f"{hf}{modules.blocks}"
    rows = _name(BLOCK, modules)
    stages = [
        build_place("pixels", f"{original}patch_embed.proj:input", f"{hf}embeddings.patch_embeddings.projection:input"),
        build_place("embeddings", f"{original}blocks.0:input", f"{blocks}.0:input", embeddings),
        *(
            build_block(f"block.{i}", rows, f"{original}blocks.{i}", f"{blocks}.{i}", original)
            for i in range(spec.depth)
        ),
    ]
    if spec.task == "masked-image-modeling":
        return [*stages, *HEAD_OF_WORDS]
    if not spec.mean_pooling:
        stages.append(build_block("norm", OUTPUT, "norm", f"{hf}layernorm"))
    if masked or spec.task == "backbone":
        last = "norm:output" if not spec.mean_pooling else f"{original}blocks.{spec.depth - 1}:output"
        return [*stages, build_place("returned.last_hidden_state", last, ":last_hidden_state")]
    is_segmentation = spec.task == "semantic-segmentation"
    heads = _list_segmentation_stages(spec, modules) if is_segmentation else _list_classifier_stages(spec)
    return [*stages, *heads, RETURNED_LOGITS]


def _name(rows: Iterable[Row], modules: Modules) -> list[Row]:
    """A table of capture points with the names that transformers' modules have in memory."""
    return [(name, original, hf.format_map(vars(modules)), keys) for name, original, hf, keys in rows]


def _list_classifier_stages(spec: BeitLikeSpec) -> list[Stage]:
    keys = ("fc_norm.*",) if spec.mean_pooling else ()
    pooled = build_place("pooled", "head:input", "classifier:input", keys)
    return [pooled, build_block("logits", OUTPUT, "head", "classifier")]


def _list_segmentation_stages(spec: BeitLikeSpec, modules: Modules) -> list[Stage]:
    column = 0 if transformers_major() < 5 else 1
    rows = [(name, original, hf[column], ("*",)) for name, original, *hf in CONVOLUTION]

    def convolution(name: str, table: dict[str, tuple[str, str]], module: str, index: int | str = "") -> Stage:
        return build_block(name, rows, module.format(index), table[module][column].format(index))

    levels = range(len(spec.out_indices) - 1)
    stages = [
        _build_feature(index, module, OUTPUT if index else _name(FIRST_SCALE, modules))
        for index, module in enumerate(modules.features)
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


def _build_feature(index: int, module: str, rows: Iterable[Row]) -> Stage:
    name, original = f"feature.{index}", f"backbone.fpn{index + 1}"
    is_place = ":" in module
    return build_place(name, f"{original}:output", module) if is_place else build_block(name, rows, original, module)
