"""BEiT's architecture: what a model is made of, read off the shapes found."""

from collections.abc import Mapping
from typing import Any, TypeVar

from conversion.errors import CheckpointError, KeyMapError
from conversion.families import vit
from conversion.families.beit_architecture.config import BeitLikeSpec
from conversion.families.images import Channels, find_channels, note_channels
from conversion.families.published import BEIT_SIZES
from conversion.families.settings import FAMILY
from conversion.families.shapes import WHOLE, check_heads, count_blocks, find_misshapen, has_any
from conversion.families.told import Told
from conversion.families.vit import CROP_PCT, SQUARE, find_grid
from conversion.mapping.key_map import Shapes
from conversion.mapping.tensors import square_side

POOL_SCALES = (1, 2, 3, 6)
"""Of the pyramid pooling in mmsegmentation's UPerNet, unless configured otherwise."""

AGREE = "Tensors of several models cannot be converted together; give the file of one, as its training saved it."

OUT_INDICES = {depth: out_indices for _, depth, _, out_indices in BEIT_SIZES.values()}
"""Of the official models, by their depth."""


MARGIN_BELOW = 384
"""Images of a smaller input size are cut from one that is 8/7 as large; larger ones have no margin to be cut."""

S = TypeVar("S", bound=BeitLikeSpec)


def is_beit_like(shapes: Shapes) -> bool:
    """Whether these keys are a BEiT-like model's: a fused projection with query's and value's biases apart, or none."""
    has_projection = shapes.keys() & {"blocks.0.attn.qkv.weight", "backbone.blocks.0.attn.qkv.weight"}
    has_own_names = has_any(shapes, ".gamma_1", "relative_position_bias_table")
    has_fused_bias = has_any(shapes, ".attn.qkv.bias")
    return has_any(shapes, ".attn.q_bias") or bool(has_projection and has_own_names and not has_fused_bias)


def recognise_spec(
    spec_class: type[S],
    shapes: Shapes,
    num_attention_heads: int | None = None,
    out_indices: tuple[int, ...] = (),
    pool_scales: tuple[int, ...] = (),
    **others: Any,
) -> S:
    """Read the spec off the shapes of an original state dict.

    Args:
        spec_class: the family's.
        num_attention_heads: needed where there are no tables of relative positions, which tell it.
        out_indices, pool_scales: of a segmentation model; not checked against the shapes while they are empty.
        others: what else shapes cannot tell, by the names of :data:`SETTINGS`, and fields of the family's own.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape; or what
            must be given.
    """
    prefix = "backbone." if any(key.startswith("backbone.") for key in shapes) else ""
    tables = _list_tables(shapes)
    depth = _check_needed(shapes, prefix, tables)
    embed_dim, patch_size = shapes[f"{prefix}cls_token"][2], shapes[f"{prefix}patch_embed.proj.weight"][3]
    head = "decode_head.conv_seg.weight" if prefix else "head.weight"
    if prefix:
        task = _recognise_segmentation(shapes, embed_dim, depth, out_indices, pool_scales)
    elif out_indices or pool_scales:
        raise CheckpointError(
            "This is no segmentation model: out_indices and pool_scales are not its own.", hint="Leave them out."
        )
    elif head in shapes or "fc_norm.weight" in shapes:
        task = {"task": "image-classification", "mean_pooling": "fc_norm.weight" in shapes}
    elif "lm_head.weight" in shapes:
        task = {"task": "masked-image-modeling", "vocab_size": shapes["lm_head.weight"][0]}
    else:
        task = {"task": "backbone"}
    return spec_class(
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
        num_channels=find_channels(shapes, f"{prefix}patch_embed.proj.weight", embed_dim),
        qkv_bias=has_any(shapes, ".attn.q_bias", ".attn.v_bias"),
        layer_scale=has_any(shapes, ".gamma_1", ".gamma_2"),
        **task,
        **others,
    )


def _check_needed(shapes: Shapes, prefix: str, tables: Shapes) -> int:
    """Check that all is there, and of possible shapes, that tells what a model is made of; count its blocks."""
    needed = {f"{prefix}patch_embed.proj.weight": 4, f"{prefix}cls_token": 3, f"{prefix}blocks.0.mlp.fc1.weight": 2}
    needed |= {"decode_head.conv_seg.weight": 4} if prefix else {}
    needed |= {"lm_head.weight": 2} if has_any(shapes, "lm_head.bias") else {}
    optional = {f"{prefix}pos_embed": 3, "head.weight": 2, "auxiliary_head.conv_seg.weight": 4}
    depth, problems = count_blocks(shapes, f"{prefix}blocks.")
    problems = find_misshapen(shapes, needed, optional | dict.fromkeys(tables, 2)) + problems
    problems += count_blocks(shapes, "decode_head.psp_modules.")[1]
    if problems:
        raise CheckpointError("This cannot be recognised as a BEiT-like model.", problems, WHOLE)
    return depth


def list_open(shapes: Shapes, usual_images: tuple[Channels, Channels] | None) -> dict[str, object]:
    """List the settings that shapes leave open, each with the value that most such models have, or None.

    Args:
        usual_images: mean and standard deviation that most such models have; None where there are no such.
    """
    tables = _list_tables(shapes)
    spec = recognise_spec(BeitLikeSpec, shapes, num_attention_heads=None if tables else 1)
    segmentation: dict[str, object] = {"out_indices": OUT_INDICES.get(spec.depth), "pool_scales": POOL_SCALES}
    mean, std = usual_images or (None, None)
    usual = vit.list_usual(
        spec.embed_dim,
        spec.num_channels,
        global_pool="avg" if "fc_norm.weight" in shapes else "token",
        image_mean=mean,
        image_std=std,
        crop_pct=CROP_PCT if spec.image_size < MARGIN_BELOW else 1.0,
        input_size=spec.image_size,
    )
    told_by_tables = {"num_attention_heads"} if tables else set()
    usual = {name: value for name, value in usual.items() if name not in told_by_tables}
    # timm's EVAs have the keys that are left, too: some norm after their blocks, some have rotary positions
    whose: dict[str, object] = {} if tables else {FAMILY: None}
    return {**(segmentation if spec.task == "semantic-segmentation" else {}), **whose, **usual}


def note_settings(spec: BeitLikeSpec, _told: Mapping[str, Told]) -> tuple[str, ...]:
    """Note what a user must know of settings that nobody gave."""
    notes = note_channels(spec.num_channels)
    if spec.is_pooled:
        return (
            *notes,
            "a classifier without its last layer: what transformers' class calls logits is the mean of the patches "
            "through a norm, as timm gives it with num_classes=0",
        )
    if spec.task != "semantic-segmentation" or notes:
        return notes
    return ("the image processor takes label 0 for none, as BEiT's recipe for ADE20K does",)


def _list_tables(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in shapes.items() if key.endswith("relative_position_bias_table")}


def _choose_heads(tables: Shapes, embed_dim: int, num_attention_heads: int | None) -> int:
    by_table = {shape[1] for shape in tables.values()}
    if not by_table:
        return check_heads(embed_dim, num_attention_heads or 0)
    problems = [f"{key} {tuple(shape)}: {shape[1]} heads" for key, shape in tables.items()]
    if num_attention_heads is not None and by_table != {num_attention_heads}:
        headline = f"num_attention_heads was given as {num_attention_heads}; its tables of relative positions differ."
        raise CheckpointError(headline, problems, "Leave --num-attention-heads out, or correct the file that says so.")
    if len(by_table) > 1:
        raise CheckpointError("Tables of relative positions do not agree on the number of heads.", problems, AGREE)
    num_heads = by_table.pop()
    if embed_dim % num_heads:
        headline = f"A width of {embed_dim} cannot have {num_heads} attention heads, as its tables have."
        raise CheckpointError(headline, problems, AGREE)
    return num_heads


def _find_window(tables: Shapes, pos_embed: str, shapes: Shapes) -> int:
    """Find the patches along a side, on which all tables and position embeddings must agree."""
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
        windows[pos_embed] = find_grid(shapes, pos_embed)
    if not windows:
        headline = f"It has neither {pos_embed} nor tables of relative positions, which tell its image size."
        raise CheckpointError(headline, hint=WHOLE)
    if len(set(windows.values())) != 1:
        problems = [f"{key}: {window} x {window} patches" for key, window in windows.items()]
        raise CheckpointError(
            "Its tables of relative positions and position embeddings are of different image sizes.", problems, AGREE
        )
    return next(iter(windows.values()))


def _recognise_segmentation(
    shapes: Shapes,
    embed_dim: int,
    depth: int,
    out_indices: tuple[int, ...],
    pool_scales: tuple[int, ...],
) -> dict[str, Any]:
    """Find the fields of the spec that a segmentation model alone has."""
    channels = shapes["decode_head.conv_seg.weight"][1]
    if channels != embed_dim:
        headline = f"Its decode_head has {channels} channels; transformers' has the backbone's width, {embed_dim}."
        raise CheckpointError(headline, hint="Use the model with the code that trained it.")
    num_scales, problems = count_blocks(shapes, "decode_head.psp_modules.")
    if pool_scales and len(pool_scales) != num_scales:
        problems.append(f"decode_head.psp_modules: {num_scales} of them, for pool_scales {pool_scales}")
    if min(pool_scales, default=1) < 1:
        problems.append(f"pool_scales: {pool_scales}, none may be below 1")
    if out_indices and (len(out_indices) != 4 or list(out_indices) != sorted(set(out_indices) & set(range(depth)))):
        problems.append(f"out_indices: {out_indices}, needed four, in order, of {depth} blocks, counted from 0")
    if problems:
        hint = "Give out_indices (--out-indices) and pool_scales (--pool-scales) as the model was configured."
        raise CheckpointError("These out_indices or pool_scales do not fit its tensors.", problems, hint)
    auxiliary = shapes.get("auxiliary_head.conv_seg.weight")
    return {
        "task": "semantic-segmentation",
        "mean_pooling": True,  # there is no final norm
        # while nobody has told them, as many as there are
        "out_indices": out_indices or tuple(range(4)),
        "pool_scales": pool_scales or tuple(range(1, num_scales + 1)),
        "auxiliary_channels": auxiliary[1] if auxiliary else 0,
    }
