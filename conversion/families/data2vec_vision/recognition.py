"""Data2Vec-Vision: what a model is made of, read off the shapes found."""

from typing import Any

from conversion.errors import CheckpointError, KeyMapError
from conversion.families.base import Override
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.shapes import (
    HEAD_DIM,
    NUM_ATTENTION_HEADS_HELP,
    WHOLE,
    choose_heads,
    count_blocks,
    find_misshapen,
    parse_integer,
    parse_integers,
)
from conversion.families.variants import DATA2VEC_VISION_SIZES
from conversion.mapping.key_map import Shapes
from conversion.mapping.tensors import square_side

POOL_SCALES = (1, 2, 3, 6)
"""Of the pyramid pooling in mmsegmentation's UPerNet, unless configured otherwise."""

SQUARE = "Only models of square images are converted."
AGREE = "Tensors of several models cannot be converted together; give the file of one, as its training saved it."

OUT_INDICES = {depth: out_indices for _, depth, _, out_indices in DATA2VEC_VISION_SIZES.values()}
"""Of the official models, by their depth."""


OVERRIDES = {
    "num_attention_heads": Override("num_heads", parse_integer, NUM_ATTENTION_HEADS_HELP),
    "out_indices": Override(
        "out_indices", parse_integers, "of a segmentation --checkpoint: its features' blocks, as 3,5,7,11"
    ),
    "pool_scales": Override("pool_scales", parse_integers, "of a segmentation --checkpoint, if not 1,2,3,6"),
}


def is_data2vec_vision(shapes: Shapes) -> bool:
    """Whether these keys are a BEiT-like model's: a fused projection with query's and value's biases apart."""
    return any(key.endswith(".attn.q_bias") for key in shapes)


def recognise_spec(
    shapes: Shapes,
    num_attention_heads: int | None = None,
    out_indices: tuple[int, ...] | None = None,
    pool_scales: tuple[int, ...] | None = None,
) -> Data2VecVisionSpec:
    """Read the spec off the shapes of an original state dict.

    Args:
        num_attention_heads: the tables of relative positions tell it; without one width / 64, unless given.
        out_indices, pool_scales: what shapes cannot tell; as in the official models of this depth, unless given.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape; or what
            must be given.
    """
    prefix = "backbone." if any(key.startswith("backbone.") for key in shapes) else ""
    needed = {f"{prefix}patch_embed.proj.weight": 4, f"{prefix}cls_token": 3, f"{prefix}blocks.0.mlp.fc1.weight": 2}
    needed |= {"decode_head.conv_seg.weight": 4} if prefix else {}
    optional = {f"{prefix}pos_embed": 3, "head.weight": 2, "auxiliary_head.conv_seg.weight": 4}
    tables = {key: shape for key, shape in shapes.items() if key.endswith("relative_position_bias_table")}
    optional |= dict.fromkeys(tables, 2)
    depth, problems = count_blocks(shapes, f"{prefix}blocks.")
    problems = find_misshapen(shapes, needed, optional) + problems
    if problems:
        raise CheckpointError("This cannot be recognised as a Data2Vec-Vision model.", problems, WHOLE)
    embed_dim, patch_size = shapes[f"{prefix}cls_token"][2], shapes[f"{prefix}patch_embed.proj.weight"][3]
    head = "decode_head.conv_seg.weight" if prefix else "head.weight"
    if not prefix and (out_indices, pool_scales) != (None, None):
        raise CheckpointError(
            "This is no segmentation model: out_indices and pool_scales are not its own.", hint="Leave them out."
        )
    features: dict[str, Any] = {"task": "backbone"}
    if prefix:
        features = {
            "task": "semantic-segmentation",
            "mean_pooling": True,  # there is no final norm
            **_recognise_segmentation(shapes, embed_dim, depth, out_indices, pool_scales),
        }
    elif head in shapes:
        features = {"task": "image-classification", "mean_pooling": "fc_norm.weight" in shapes}
    return Data2VecVisionSpec(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=_choose_heads(tables, embed_dim, num_attention_heads),
        hidden_dim=shapes[f"{prefix}blocks.0.mlp.fc1.weight"][0],
        patch_size=patch_size,
        image_size=_find_window(tables, f"{prefix}pos_embed", shapes) * patch_size,
        shared_position_bias=f"{prefix}rel_pos_bias.relative_position_bias_table" in tables,
        block_position_bias=any(".attn." in key for key in tables),
        absolute_positions=f"{prefix}pos_embed" in shapes,
        mask_token=f"{prefix}mask_token" in shapes,
        num_classes=shapes[head][0] if head in shapes else 0,
        **features,
    )


def find_assumptions(spec: Data2VecVisionSpec) -> dict[str, str]:
    """What a recognised spec assumes where an override is not given, by its name; of the rest by any other."""
    assumptions = {}
    if not spec.shared_position_bias and not spec.block_position_bias:
        assumptions["num_attention_heads"] = f"{spec.num_heads} attention heads assumed: width / {HEAD_DIM}"
    if spec.task == "semantic-segmentation":
        assumptions |= {
            "out_indices": f"features of blocks {spec.out_indices} assumed, as in the official models of this depth",
            "pool_scales": f"pyramid pooling at {spec.pool_scales} assumed, mmsegmentation's default",
            "image_processor": "the image processor normalises as BEiT's recipe for ADE20K, where label 0 is none",
        }
    return assumptions


def _choose_heads(tables: Shapes, embed_dim: int, num_attention_heads: int | None) -> int:
    by_table = {shape[1] for shape in tables.values()}
    if not by_table:
        return choose_heads(embed_dim, num_attention_heads)
    problems = [f"{key} {tuple(shape)}: {shape[1]} heads" for key, shape in tables.items()]
    if len(by_table | ({num_attention_heads} - {None})) > 1:
        problems += [f"given: {num_attention_heads}"] if num_attention_heads is not None else []
        raise CheckpointError("Tables of relative positions do not agree on the number of heads.", problems, AGREE)
    num_heads = by_table.pop()
    if embed_dim % num_heads:
        headline = f"A width of {embed_dim} cannot have {num_heads} attention heads, as its tables have."
        raise CheckpointError(headline, problems, AGREE)
    return num_heads


def _find_window(tables: Shapes, pos_embed: str, shapes: Shapes) -> int:
    """Patches along a side, from all tables and position embeddings, which must agree on it."""
    windows, problems = {}, []
    for key, shape in tables.items():
        try:
            side = square_side(shape[0] - 3)  # every offset along either axis, and three for the CLS token
            windows[key] = (side + 1) // 2
            problems += [f"{key} {tuple(shape)}: {shape[0]} rows"] if side % 2 == 0 else []
        except KeyMapError:
            problems.append(f"{key} {tuple(shape)}: {shape[0]} rows")
    if problems:
        raise CheckpointError(
            "Tables of relative positions of a square window have (2w - 1)^2 + 3 rows.", problems, SQUARE
        )
    if pos_embed in shapes:
        try:
            windows[pos_embed] = square_side(shapes[pos_embed][1] - 1)
        except KeyMapError as error:
            headline = f"{pos_embed} {tuple(shapes[pos_embed])}: {error.headline}"
            raise CheckpointError(headline, hint=SQUARE) from error
    if len(set(windows.values())) != 1:
        problems = [f"{key}: {window} x {window} patches" for key, window in windows.items()]
        raise CheckpointError("What knows of positions does not agree on one image size.", problems, AGREE)
    return next(iter(windows.values()))


def _recognise_segmentation(
    shapes: Shapes,
    embed_dim: int,
    depth: int,
    out_indices: tuple[int, ...] | None,
    pool_scales: tuple[int, ...] | None,
) -> dict[str, Any]:
    num_scales, problems = count_blocks(shapes, "decode_head.psp_modules.")
    pool_scales = POOL_SCALES if pool_scales is None else pool_scales
    if len(pool_scales) != num_scales:
        problems.append(f"decode_head.psp_modules: {num_scales} of them, for pool_scales {pool_scales}: give others")
    if min(pool_scales, default=0) < 1:
        problems.append(f"pool_scales: {pool_scales}, none may be below 1")
    if out_indices is None:
        out_indices = OUT_INDICES.get(depth)
    if out_indices is None:
        problems.append(f"out_indices: shapes cannot tell them for {depth} blocks; give out_indices (--out-indices)")
    elif len(out_indices) != 4 or list(out_indices) != sorted(set(out_indices) & set(range(depth))):
        problems.append(f"out_indices: {out_indices}, needed four, in order, of {depth} blocks")
    channels = shapes["decode_head.conv_seg.weight"][1]
    if channels != embed_dim:
        problems.append(f"decode_head: {channels} channels; transformers' has the backbone's width, {embed_dim}")
    if problems:
        hint = "Give out_indices (--out-indices) and pool_scales (--pool-scales) as the model was configured."
        raise CheckpointError("This cannot be converted as a Data2Vec-Vision segmentation model.", problems, hint)
    auxiliary = shapes.get("auxiliary_head.conv_seg.weight")
    return {
        "out_indices": out_indices,
        "pool_scales": pool_scales,
        "auxiliary_channels": auxiliary[1] if auxiliary else 0,
    }
