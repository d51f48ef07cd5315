"""DINOv2: what a model is made of, from the shapes found, and what these leave open."""

from collections.abc import Mapping
from typing import Any

from conversion.errors import CheckpointError
from conversion.families import vit
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.feed_forward import find_mlp_ratio, find_swiglu_ratio
from conversion.families.images import note_channels
from conversion.families.linear_head import is_of_one_vector
from conversion.families.shapes import has_any, has_depth_head, has_rotary_positions
from conversion.families.told import Told, note_normalisation
from conversion.families.vit import read_shapes
from conversion.mapping.key_map import Shapes

# what the spec is read from beside the embeddings: key and number of dimensions
NEEDED = {"blocks.0.attn.qkv.weight": 2}
OPTIONAL = {"register_tokens": 3, "linear_head.weight": 2}


def is_dinov2(shapes: Shapes) -> bool:
    """Whether these keys are a DINOv2 model's: its own names for layer scale or registers, or its mask token's axes."""
    has_own_tokens = len(shapes.get("mask_token", ())) == 2 or "register_tokens" in shapes
    return (
        not has_rotary_positions(shapes)
        and not has_depth_head(shapes)
        and (has_any(shapes, ".ls1.gamma") or (has_own_tokens and has_any(shapes, ".attn.qkv.weight")))
    )


def recognise_spec(shapes: Shapes, num_attention_heads: int, **settings: Any) -> Dinov2Spec:
    """Read the spec off the shapes of an original state dict (linear head under ``linear_head.``).

    Args:
        num_attention_heads, settings: what shapes cannot tell, by the names of :data:`SETTINGS`.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    common = read_shapes(shapes, "DINOv2", num_attention_heads, needed=NEEDED, optional=OPTIONAL)
    if settings.get("global_pool") == "avg" and not is_of_one_vector(shapes):
        headline = (
            "global_pool is told as 'avg'; without a classifier on one vector, transformers' model pools its CLS token."
        )
        hint = "Tell 'token', in the file that says 'avg' if one does; the mean can be taken of the other tokens."
        raise CheckpointError(headline, hint=hint)
    is_gated = has_any(shapes, ".mlp.w12.weight")
    return Dinov2Spec(
        ffn="swiglu" if is_gated else "mlp",
        num_register_tokens=shapes["register_tokens"][1] if "register_tokens" in shapes else 0,
        num_classes=shapes["linear_head.weight"][0] if "linear_head.weight" in shapes else 0,
        mlp_ratio=(find_swiglu_ratio if is_gated else find_mlp_ratio)(shapes, common["embed_dim"]),
        qkv_bias=has_any(shapes, ".attn.qkv.bias"),
        proj_bias=has_any(shapes, ".attn.proj.bias"),
        ffn_bias=has_any(shapes, *(f".mlp.{layer}.bias" for layer in ("fc1", "fc2", "w12", "w3"))),
        layer_scale=has_any(shapes, ".ls1.gamma", ".ls2.gamma"),
        **common,
        **settings,
    )


def list_open(shapes: Shapes) -> dict[str, object]:
    """List the settings that shapes leave open, each with the value that most such models have, or None."""
    return vit.list_open(
        shapes,
        hidden_act="silu" if "blocks.0.mlp.w12.weight" in shapes else "gelu",
        **({"global_pool": "token"} if is_of_one_vector(shapes) else {}),
        interpolate_offset=None,
        interpolate_antialias=None,
    )


def note_settings(spec: Dinov2Spec, told: Mapping[str, Told]) -> tuple[str, ...]:
    """Note what a user must know of settings that nobody gave, and of what such a model lacks."""
    notes = [*note_channels(spec.num_channels)]
    if not spec.mask_token:
        notes.append("the checkpoint has no mask token: patches cannot be masked (bool_masked_pos)")
    if not spec.any_size:
        notes.append(
            f"nothing is claimed at another size than {spec.image_size} x {spec.image_size} pixels: nothing tells how "
            "the original resamples position embeddings. Give --interpolate-offset and --interpolate-antialias, or "
            "put the training's config.yaml beside the checkpoint (the authors' training has 0.1 and false by default; "
            "timm's code, with dynamic_img_size, 0 and true)"
        )
    return (*notes, *note_normalisation(told))
