"""DINOv3: what a model is made of, from the shapes and values found, and what these leave open."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families import vit
from conversion.families.dinov3.config import Dinov3Spec
from conversion.families.dinov3.original import build_bias_mask
from conversion.families.dinov3.rotary import compute_periods, find_theta
from conversion.families.images import find_channels, note_channels
from conversion.families.shapes import WHOLE, check_heads, count_blocks, find_misshapen, has_any
from conversion.families.told import Told, note_normalisation
from conversion.mapping.key_map import Shapes, StateDict

# what the spec is read from: key and number of dimensions
NEEDED = {"cls_token": 3, "patch_embed.proj.weight": 4, "rope_embed.periods": 1, "blocks.0.attn.qkv.weight": 2}
OPTIONAL = {"storage_tokens": 3, "mask_token": 2}

UNTIED = (
    "The training had untie_cls_and_patch_norms. transformers' model has one norm: without the other, the class token "
    "is another. Use the model with the authors' code."
)

CROP = (
    "Give 1 in its place (--crop-pct 1), or in the file that says so, and crop images beforehand if this model was "
    "trained to see their middle."
)


def recognise_spec(shapes: Shapes, **settings: Any) -> Dinov3Spec:
    """Read the spec off the shapes of an original state dict.

    Args:
        settings: what shapes cannot tell, by the names of :data:`SETTINGS`.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    depth, problems = count_blocks(shapes)
    is_gated = has_any(shapes, ".mlp.w1.weight")
    hidden = f"blocks.0.mlp.{'w1' if is_gated else 'fc1'}.weight"
    problems = find_misshapen(shapes, {**NEEDED, hidden: 2}, OPTIONAL) + problems
    if problems:
        raise CheckpointError("This cannot be recognised as a DINOv3 model.", problems, WHOLE)
    if untied := [f"{key} {tuple(shape)}" for key, shape in shapes.items() if key.startswith("cls_norm.")]:
        raise CheckpointError("This DINOv3 model has a final norm of its own for the class token.", untied, UNTIED)
    if settings.get("crop_pct", 1.0) != 1.0:
        headline = (
            f"crop_pct is told as {settings['crop_pct']}; the image processor resizes the whole image to a square."
        )
        raise CheckpointError(headline, hint=CROP)
    embed_dim = shapes["cls_token"][2]
    has_bias = has_any(shapes, ".attn.qkv.bias")
    return Dinov3Spec(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=_count_heads(embed_dim, shapes["rope_embed.periods"][0]),
        patch_size=shapes["patch_embed.proj.weight"][3],
        num_channels=find_channels(shapes, "patch_embed.proj.weight", embed_dim),
        hidden_dim=shapes[hidden][0],
        is_gated=is_gated,
        num_storage_tokens=shapes["storage_tokens"][1] if "storage_tokens" in shapes else 0,
        qkv_bias=has_bias,
        key_bias=has_bias and not has_any(shapes, ".attn.qkv.bias_mask"),
        proj_bias=has_any(shapes, ".attn.proj.bias"),
        ffn_bias=has_any(shapes, *(f".mlp.{layer}.bias" for layer in ("fc1", "fc2", "w1", "w2", "w3"))),
        layer_scale=has_any(shapes, ".ls1.gamma", ".ls2.gamma"),
        mask_token="mask_token" in shapes,
        storage_tokens="storage_tokens" in shapes,
        local_cls_norm=any(key.startswith("local_cls_norm.") for key in shapes),
        **settings,
    )


def _count_heads(embed_dim: int, periods: int) -> int:
    """A head has four numbers a period: two for either axis."""
    heads, rest = divmod(embed_dim, 4 * periods)
    if rest:
        headline = f"rope_embed.periods ({periods},): heads of a width of {4 * periods} do not make one of {embed_dim}."
        raise CheckpointError(headline, hint=WHOLE)
    return check_heads(embed_dim, heads)


def read_values(tensors: StateDict, spec: Dinov3Spec) -> Dinov3Spec:
    """Read from the values of buffers what shapes do not tell: the base of the periods, and what the mask masks.

    Raises:
        CheckpointError: the periods are of no base, or a mask takes away something else than the bias of key.
    """
    problems, theta = [], spec.rope_theta
    periods = tensors.get("rope_embed.periods")
    if periods is not None and not periods.is_meta:
        theta = find_theta(periods) or 0.0
        if not theta:
            problems.append(f"rope_embed.periods: {periods.tolist()}, which are no powers of one base")
    problems += [
        f"{key}: {found}"
        for key, mask in tensors.items()
        if key.endswith(".attn.qkv.bias_mask") and not mask.is_meta and (found := _find_fault(mask))
    ]
    if problems:
        hint = "transformers' model cannot compute what this one does. Give the weights as the training saved them."
        raise CheckpointError("These buffers of a DINOv3 model have unknown values.", problems, hint)
    return replace(spec, rope_theta=theta)


def _find_fault(mask: Tensor) -> str:
    """What is wrong with a mask; nothing where it takes away the bias of key, its middle third."""
    query, key, value = mask.cpu().tensor_split(3)
    if not bool((query == 1).all() and (value == 1).all()):
        return "takes away something else than the bias of key, its middle third"
    if bool((key == 1).all()):
        return "takes nothing away; take the masks out of the state dict, and the bias of key is converted, too"
    return "" if bool((key == 0).all()) else "takes away a part of the bias of key only"


def list_open(shapes: Shapes) -> dict[str, object]:
    """List the settings that shapes leave open, each with the value that most such models have, or None."""
    weight = shapes.get("patch_embed.proj.weight", ())
    embed_dim = weight[0] if weight else None
    usual = vit.list_usual(
        embed_dim,
        find_channels(shapes, "patch_embed.proj.weight", embed_dim),
        hidden_act="silu" if has_any(shapes, ".mlp.w1.weight") else "gelu",
        layer_norm_eps=1e-5,
        interpolation="bilinear",
        crop_pct=1.0,
    )
    return {name: value for name, value in usual.items() if name != "num_attention_heads"}


SCALED = (
    "positions are scaled by height and width, each by itself, as in the official models "
    "(pos_embed_rope_normalize_coords 'separate'): no tensor shows it"
)


def note_settings(spec: Dinov3Spec, told: Mapping[str, Told]) -> tuple[str, ...]:
    """Note what a user must know of settings that nobody gave, and of what such a model lacks."""
    masks = () if spec.mask_token else ("the checkpoint has no mask token: patches cannot be masked (bool_masked_pos)",)
    return (*note_channels(spec.num_channels), *masks, SCALED, *note_normalisation(told))


def fallback(spec: Dinov3Spec) -> dict[str, Tensor]:
    """Buffers of an original that computes what a converted model does, where nothing was kept beside it."""
    masks = [f"blocks.{index}.attn.qkv.bias_mask" for index in range(spec.depth)] if spec.masks_key_bias else []
    return {
        "rope_embed.periods": compute_periods(spec.rope_theta, spec.head_dim // 4),
        **{key: build_bias_mask(3 * spec.embed_dim) for key in masks},
    }
