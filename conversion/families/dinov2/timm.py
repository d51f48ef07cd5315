"""DINOv2 as timm writes it, brought back to the original's keys.

timm folds away what it does not use. Of registers it has no position embeddings, and the CLS token has its own added
already, so that the original's is put back as zeros; masked training has no part in it, and its mask token is gone.
Models of timm's own make may have position embeddings of registers, too, which the original has no place for.
Source: timm's ``vision_transformer.py``, where it reads original checkpoints, and its ``_pos_embed``.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.timm_code import Description, build_model, is_packed, refuse_foreign
from conversion.mapping.key_map import Shapes, shapes_of

RENAMED = {"reg_token": "register_tokens", "head.weight": "linear_head.weight", "head.bias": "linear_head.bias"}

# of the gated feed-forward, which timm gives the names of a plain one
SWIGLU = {"mlp.fc1.": "mlp.w12.", "mlp.fc2.": "mlp.w3."}

# modules that transformers' models have no place for: what they are in timm
FOREIGN = {
    "fc_norm.":   "a norm after the pooling (global_pool='avg', or fc_norm=True)",
    "attn_pool.": "pooling by attention (global_pool='map')",
}  # fmt: skip

KEEP = (
    "transformers' DINOv2 norms every token and then pools. Train with global_pool='token', or with fc_norm=False, "
    "which can be converted; or keep this model in timm."
)


def translate(
    state_dict: Mapping[str, Tensor], description: Description | None = None
) -> tuple[dict[str, Tensor], str]:
    """Translate timm's state dict to the original's, and say what was done; leave any other one as it is.

    Args:
        description: what a ``config.json`` beside it tells.

    Returns:
        the state dict: tensors that timm folded into others are zeros, of the shape that the original has.

    Raises:
        CheckpointError: it has modules that transformers' model has no place for, or its tensors do not tell of which
            tokens it has position embeddings.
    """
    if not is_timms(state_dict):
        return dict(state_dict), ""
    refuse_foreign(state_dict, FOREIGN, KEEP)
    names = {key: RENAMED.get(key, key) for key in state_dict}
    if is_packed(state_dict):
        names = {key: _rename_gated(name) for key, name in names.items()}
    translated = {name: state_dict[key] for key, name in names.items()}
    did = ["timm's names and tensors brought back; it keeps no mask token: patches cannot be masked"]
    positions, placed = place_positions(state_dict, description)
    translated |= positions
    did += [placed] if placed else []
    return translated, "; ".join(did)


def place_positions(state_dict: Mapping[str, Tensor], description: Description | None) -> tuple[dict[str, Tensor], str]:
    """Position embeddings of CLS token and patches ``(1, 1 + N, D)``; those of registers added into these; and how.

    The sum is the one that timm computes. Of half precision it is taken in float32, as timm's is in a float32 model.
    """
    pos_embed, registers = state_dict["pos_embed"], state_dict.get("reg_token")
    num_prefix = count_prefix(shapes_of(state_dict), description)
    if num_prefix == 0:
        # timm adds positions to patches alone; zeros, added to the CLS token, leave it as it is
        zeros = pos_embed.new_zeros(1, 1, pos_embed.shape[-1])
        placed = "the position embedding of the CLS token is folded into it: zeros stand for it"
        return {"pos_embed": torch.cat((zeros, pos_embed), dim=1)}, placed
    if num_prefix is None or registers is None:
        return {}, ""
    first, of_registers, patches = pos_embed.split((1, num_prefix - 1, pos_embed.shape[1] - num_prefix), dim=1)
    dtype = torch.promote_types(torch.promote_types(pos_embed.dtype, registers.dtype), torch.float32)
    name = str(dtype).removeprefix("torch.")
    placed = (
        f"position embeddings of {num_prefix - 1} registers added into these, as timm does on every image; each sum is "
        f"rounded to {name}, as timm's is in a {name} model, by at most half a unit in the last place: a model that is "
        "run in a wider dtype differs by that; restored, they stay added"
    )
    summed = registers.to(dtype) + of_registers.to(dtype)  # (1, R, D)
    return {"pos_embed": torch.cat((first, patches), dim=1), "register_tokens": summed}, placed


def count_prefix(shapes: Shapes, description: Description | None = None) -> int | None:
    """Rows of timm's ``pos_embed`` that come before those of the patches: none, or CLS token's and registers'.

    Returns:
        None where neither leaves the patches of a square image.

    Raises:
        CheckpointError: either leaves a square, and nobody tells.
    """
    rows = shapes["pos_embed"][1]
    num_tokens = 1 + (shapes["reg_token"][1] if "reg_token" in shapes else 0)
    counts = [count for count in (0, num_tokens) if rows > count and math.isqrt(rows - count) ** 2 == rows - count]
    if len(counts) < 2:
        return counts[0] if counts else None
    if description is not None:
        with torch.device("meta"):
            model = build_model(description, nn.Module, {})
        return 0 if getattr(model, "no_embed_class", False) else num_tokens
    problems = [f"pos_embed {shapes['pos_embed']}: {rows - count} patches and {count} other tokens" for count in counts]
    headline = "Its tensors do not tell of which tokens it has position embeddings."
    raise CheckpointError(headline, problems, "Put timm's config.json beside it (timm.models.save_for_hf writes both).")


def is_timms(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are the keys of timm's DINOv2: its layer scale's, and no mask token, which the original has."""
    has_layer_scale = any(key.endswith(".ls1.gamma") for key in state_dict)
    pos_embed = state_dict.get("pos_embed")
    is_whole = pos_embed is not None and pos_embed.ndim == 3 and "patch_embed.proj.weight" in state_dict
    return has_layer_scale and is_whole and "mask_token" not in state_dict and "register_tokens" not in state_dict


def _rename_gated(name: str) -> str:
    for theirs, ours in SWIGLU.items():
        name = name.replace(theirs, ours)
    return name
