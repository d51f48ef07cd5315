"""DINOv2: what a model is made of, from the shapes found, and what these leave open."""

from collections.abc import Mapping
from typing import Any

from conversion.errors import CheckpointError, KeyMapError
from conversion.families.dinov2.config import CROP_PCT, Dinov2Spec
from conversion.families.feed_forward import find_mlp_ratio, find_swiglu_ratio
from conversion.families.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NORMALISATION_SETTINGS,
    find_channels,
    list_unused,
    note_channels,
)
from conversion.families.linear_head import is_of_one_vector
from conversion.families.shapes import (
    WHOLE,
    check_heads,
    count_blocks,
    find_misshapen,
    guess_heads,
    has_any,
)
from conversion.families.told import Told
from conversion.mapping.key_map import Shapes
from conversion.mapping.tensors import square_side

# what the spec is read from: key and number of dimensions
NEEDED = {"pos_embed": 3, "patch_embed.proj.weight": 4, "blocks.0.attn.qkv.weight": 2}
OPTIONAL = {"register_tokens": 3, "linear_head.weight": 2}


def is_dinov2(shapes: Shapes) -> bool:
    """Whether these keys are a DINOv2 model's: its own names for layer scale or registers, or its mask token's axes."""
    has_own_tokens = len(shapes.get("mask_token", ())) == 2 or "register_tokens" in shapes
    return has_any(shapes, ".ls1.gamma") or (has_own_tokens and has_any(shapes, ".attn.qkv.weight"))


def recognise_spec(shapes: Shapes, num_attention_heads: int, **settings: Any) -> Dinov2Spec:
    """Read the spec off the shapes of an original state dict (linear head under ``linear_head.``).

    Args:
        num_attention_heads, settings: what shapes cannot tell, by the names of :data:`SETTINGS`.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    depth, problems = count_blocks(shapes)
    problems = find_misshapen(shapes, NEEDED, OPTIONAL) + problems
    if problems:
        raise CheckpointError("This cannot be recognised as a DINOv2 model.", problems, WHOLE)
    embed_dim, patch_size = shapes["pos_embed"][2], shapes["patch_embed.proj.weight"][3]
    try:
        grid = square_side(shapes["pos_embed"][1] - 1)
    except KeyMapError as error:
        headline = f"pos_embed {tuple(shapes['pos_embed'])}: {error.headline}"
        raise CheckpointError(headline, hint="Only models of square images are converted.") from error
    if settings.get("global_pool") == "avg" and not is_of_one_vector(shapes):
        headline = (
            "global_pool is told as 'avg'; without a classifier on one vector, transformers' model pools its CLS token."
        )
        hint = "Tell 'token', in the file that says 'avg' if one does; the mean can be taken of the other tokens."
        raise CheckpointError(headline, hint=hint)
    is_gated = has_any(shapes, ".mlp.w12.weight")
    return Dinov2Spec(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=check_heads(embed_dim, num_attention_heads),
        ffn="swiglu" if is_gated else "mlp",
        num_register_tokens=shapes["register_tokens"][1] if "register_tokens" in shapes else 0,
        patch_size=patch_size,
        image_size=grid * patch_size,
        num_classes=shapes["linear_head.weight"][0] if "linear_head.weight" in shapes else 0,
        num_channels=find_channels(shapes, "patch_embed.proj.weight", embed_dim),
        mlp_ratio=(find_swiglu_ratio if is_gated else find_mlp_ratio)(shapes, embed_dim),
        mask_token="mask_token" in shapes,
        qkv_bias=has_any(shapes, ".attn.qkv.bias"),
        proj_bias=has_any(shapes, ".attn.proj.bias"),
        ffn_bias=has_any(shapes, *(f".mlp.{layer}.bias" for layer in ("fc1", "fc2", "w12", "w3"))),
        layer_scale=has_any(shapes, ".ls1.gamma", ".ls2.gamma"),
        **settings,
    )


def list_open(shapes: Shapes) -> dict[str, object]:
    """The settings that shapes leave open, each with the value that most such models have, or None."""
    embed_dim = shapes["pos_embed"][2] if len(shapes.get("pos_embed", ())) == 3 else None
    usual = {
        "num_attention_heads": guess_heads(embed_dim) if embed_dim else None,
        "layer_norm_eps": 1e-6,
        "hidden_act": "silu" if "blocks.0.mlp.w12.weight" in shapes else "gelu",
        **({"global_pool": "token"} if is_of_one_vector(shapes) else {}),
        "interpolate_offset": None,
        "interpolate_antialias": None,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "crop_pct": CROP_PCT,
        "interpolation": "bicubic",
    }
    unused = list_unused(find_channels(shapes, "patch_embed.proj.weight", embed_dim))
    return {name: value for name, value in usual.items() if name not in unused}


def note_settings(spec: Dinov2Spec, told: Mapping[str, Told]) -> tuple[str, ...]:
    """What a user must know of settings that nobody gave, and of what such a model has not."""
    notes = [*note_channels(spec.num_channels)]
    if not spec.mask_token:
        notes.append("the checkpoint has no mask token: patches cannot be masked (bool_masked_pos)")
    if not spec.any_size:
        notes.append(
            f"nothing is claimed at another size than {spec.image_size} x {spec.image_size} pixels: nothing tells how "
            "the original resamples position embeddings. Give --interpolate-offset and --interpolate-antialias, or "
            "put the training's config.yaml beside the checkpoint (the authors' training has 0.1 and false by default)"
        )
    if any(name in told and not told[name].is_given for name in NORMALISATION_SETTINGS):
        notes.append(
            "the image processor normalises with ImageNet's mean and std, as the official models do; "
            "give --image-mean and --image-std if this model was trained with others"
        )
    return tuple(notes)
