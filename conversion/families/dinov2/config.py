"""DINOv2: what a model is made of, from a variant's row or from the shapes found, and its transformers config."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from conversion.errors import CheckpointError, KeyMapError
from conversion.families.feed_forward import find_mlp_ratio, find_swiglu_ratio, reckon_swiglu_width
from conversion.families.images import (
    CROP_SETTINGS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NORMALISATION_SETTINGS,
    Channels,
    find_channels,
    list_unused,
    note_channels,
)
from conversion.families.labels import build_labels
from conversion.families.lacking import read_lacking, write_lacking
from conversion.families.shapes import (
    TRANSFORMER_SETTINGS,
    WHOLE,
    check_heads,
    count_blocks,
    find_misshapen,
    guess_heads,
    has_any,
    parse_flag,
    parse_offset,
)
from conversion.families.told import Setting, Told
from conversion.mapping.key_map import Shapes
from conversion.mapping.tensors import square_side

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SETTINGS = {
    **TRANSFORMER_SETTINGS,
    "interpolate_offset": Setting(
        "interpolate_offset",
        parse_offset,
        "added to the patch grid where position embeddings are resampled; 0.1 by default in the authors' training",
        neutral=0.0,
        is_needed=False,
    ),
    "interpolate_antialias": Setting(
        "interpolate_antialias",
        parse_flag,
        "whether position embeddings are resampled with antialias; false by default in the authors' training",
        neutral=False,
        is_needed=False,
    ),
    **NORMALISATION_SETTINGS,
    **CROP_SETTINGS,
}
"""What tensors cannot tell of a DINOv2 model."""

# each of these settings determines the field of its name
BESIDE_CONFIG = frozenset({"interpolate_offset", "interpolate_antialias", *NORMALISATION_SETTINGS, *CROP_SETTINGS})
"""Fields of the spec that transformers' config has no place for."""

CROP_PCT = 224 / 256
"""Of the original's evaluation: a crop of 224 pixels out of a short edge of 256."""

# what the spec is read from: key and number of dimensions
NEEDED = {"pos_embed": 3, "patch_embed.proj.weight": 4, "blocks.0.attn.qkv.weight": 2}
OPTIONAL = {"register_tokens": 3, "linear_head.weight": 2}


@dataclass(frozen=True)
class Dinov2Spec:
    """All that the architecture depends on.

    Attributes:
        embed_dim: width D of the tokens.
        ffn: ``"mlp"``, or ``"swiglu"`` as in the giant.
        num_register_tokens: 0 for a plain model.
        patch_size: side of a patch, in pixels.
        image_size: native side, in pixels: ``pos_embed`` has ``(image_size / patch_size) ** 2`` patch positions.
        num_classes: of the 1-layer linear head; 0 for a backbone.
        layer_norm_eps: of every layer norm.
        interpolate_offset, interpolate_antialias: how position embeddings are resampled for another size than native:
            added to the patch grid, and whether with antialias. None where nobody told: then no other size is claimed.
        image_mean, image_std: of the normalisation of images in a range of 0 to 1.
        crop_pct: share of the short edge that the centre crop keeps.
        interpolation: of images, by name.
        input_size: side in pixels of the images that the image processor makes; None for the usual one.
        num_channels: of the images.
        mlp_ratio: width of the feed-forward's hidden layer in widths of the tokens, before a gate takes its share.
        mask_token: patches can be masked; every model has one after the authors' training.
        qkv_bias, proj_bias, ffn_bias: whether these layers have biases, by the names in the training's config.
        layer_scale: each residual branch has a learned factor per channel.
    """

    embed_dim: int
    depth: int
    num_heads: int
    ffn: Literal["mlp", "swiglu"]
    num_register_tokens: int
    patch_size: int
    image_size: int
    num_classes: int
    layer_norm_eps: float = 1e-6
    interpolate_offset: float | None = None
    interpolate_antialias: bool | None = None
    image_mean: Channels = IMAGENET_MEAN
    image_std: Channels = IMAGENET_STD
    crop_pct: float = CROP_PCT
    interpolation: str = "bicubic"
    input_size: int | None = None
    num_channels: int = 3
    mlp_ratio: int = 4
    mask_token: bool = True
    qkv_bias: bool = True
    proj_bias: bool = True
    ffn_bias: bool = True
    layer_scale: bool = True

    @property
    def hidden_dim(self) -> int:
        """Width of the feed-forward's hidden layer."""
        width = int(self.mlp_ratio * self.embed_dim)  # transformers 4 takes ratios that are not whole
        return width if self.ffn == "mlp" else reckon_swiglu_width(width)

    @property
    def grid(self) -> int:
        """Patches along a side at the native size."""
        return self.image_size // self.patch_size

    @property
    def task(self) -> str:
        """What the model is for."""
        return "image-classification" if self.num_classes else "backbone"

    @property
    def any_size(self) -> bool:
        """Position embeddings are resampled to any size, where it is known how."""
        return self.interpolate_offset is not None and self.interpolate_antialias is not None

    @property
    def hf_prefix(self) -> str:
        """Where the backbone lives in transformers' module tree and keys."""
        prefix = "dinov2_with_registers." if self.num_register_tokens else "dinov2."
        return prefix if self.num_classes else ""

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        base = "Dinov2WithRegisters" if self.num_register_tokens else "Dinov2"
        return base + ("ForImageClassification" if self.num_classes else "Model")


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


def complete(spec: Dinov2Spec) -> Dinov2Spec:
    """The spec with all that transformers' model always has: only without registers it may lack a mask token."""
    has_mask_token = spec.mask_token or spec.num_register_tokens > 0
    return replace(spec, mask_token=has_mask_token, proj_bias=True, ffn_bias=True, layer_scale=True)


def list_open(shapes: Shapes) -> dict[str, object]:
    """The settings that shapes leave open, each with the value that most such models have, or None."""
    embed_dim = shapes["pos_embed"][2] if len(shapes.get("pos_embed", ())) == 3 else None
    usual = {
        "num_attention_heads": guess_heads(embed_dim) if embed_dim else None,
        "layer_norm_eps": 1e-6,
        "hidden_act": "silu" if "blocks.0.mlp.w12.weight" in shapes else "gelu",
        "global_pool": "token",
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
            f"nothing is claimed at another size than {spec.image_size} x {spec.image_size} pixels: nobody told how "
            "the original resamples position embeddings. Give --interpolate-offset and --interpolate-antialias, or "
            "put the training's config.yaml beside the checkpoint (the authors' training has 0.1 and false by default)"
        )
    if any(name in told and not told[name].is_given for name in NORMALISATION_SETTINGS):
        notes.append(
            "the image processor normalises with ImageNet's mean and std, as the official models do; "
            "give --image-mean and --image-std if this model was trained with others"
        )
    return tuple(notes)


def build_config(spec: Dinov2Spec, labels: tuple[str, ...]) -> "PretrainedConfig":
    """The transformers config, every value written out that the outputs depend on.

    Args:
        labels: a classifier's class names, in the order of the logits; none of a backbone.
    """
    from transformers import Dinov2Config, Dinov2WithRegistersConfig

    values: dict[str, Any] = {
        "architectures": [spec.hf_class],
        "hidden_size": spec.embed_dim,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.num_heads,
        "mlp_ratio": spec.mlp_ratio,
        "hidden_act": "gelu",
        "layer_norm_eps": spec.layer_norm_eps,
        "image_size": spec.image_size,
        "patch_size": spec.patch_size,
        "num_channels": spec.num_channels,
        "qkv_bias": spec.qkv_bias,
        "use_swiglu_ffn": spec.ffn == "swiglu",
        **write_lacking(spec, complete(spec)),
    }
    if labels:
        values |= build_labels(labels)
    if spec.num_register_tokens:
        return Dinov2WithRegistersConfig(num_register_tokens=spec.num_register_tokens, **values)
    return Dinov2Config(use_mask_token=spec.mask_token, **values)


def read_config(config: "PretrainedConfig") -> Dinov2Spec:
    """The spec that a transformers config describes; the inverse of :func:`build_config`."""
    has = read_lacking(config, "mask_token", "proj_bias", "ffn_bias", "layer_scale")
    return Dinov2Spec(
        embed_dim=config.hidden_size,
        depth=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        ffn="swiglu" if config.use_swiglu_ffn else "mlp",
        num_register_tokens=getattr(config, "num_register_tokens", 0),
        patch_size=config.patch_size,
        image_size=config.image_size,
        num_classes=len(config.id2label or ()) if "ForImageClassification" in (config.architectures or [""])[0] else 0,
        layer_norm_eps=config.layer_norm_eps,
        num_channels=config.num_channels,
        mlp_ratio=config.mlp_ratio,
        qkv_bias=config.qkv_bias,
        **{**has, "mask_token": has["mask_token"] and getattr(config, "use_mask_token", True)},
    )
