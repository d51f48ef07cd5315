"""DINOv2: what a model is made of, from a variant's row or from the shapes found, and its transformers config."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from conversion.families.feed_forward import reckon_swiglu_width
from conversion.families.images import (
    CROP_SETTINGS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NORMALISATION_SETTINGS,
    Channels,
)
from conversion.families.labels import build_labels
from conversion.families.lacking import read_lacking, write_lacking
from conversion.families.shapes import (
    TRANSFORMER_SETTINGS,
    parse_flag,
    parse_offset,
)
from conversion.families.told import Setting

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SETTINGS = {
    **TRANSFORMER_SETTINGS,
    "global_pool": replace(TRANSFORMER_SETTINGS["global_pool"], field="global_pool", fixed_by=frozenset()),
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
BESIDE_CONFIG = frozenset(
    {"global_pool", "interpolate_offset", "interpolate_antialias", *NORMALISATION_SETTINGS, *CROP_SETTINGS}
)
"""Fields of the spec that transformers' config has no place for."""

ALIKE = {"Dinov2Backbone": "Dinov2Model", "Dinov2WithRegistersBackbone": "Dinov2WithRegistersModel"}
"""Classes of transformers that return the outputs of several blocks, and whose tensors they have."""

ALIKE_FIELDS = frozenset({"apply_layernorm", "out_features", "out_indices", "reshape_hidden_states"})
"""Fields of transformers' config that say what these return."""

CROP_PCT = 224 / 256
"""Of the original's evaluation: a crop of 224 pixels out of a short edge of 256."""


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
        global_pool: of a linear head on one vector, whether that is the CLS token or the mean of the patches ("avg").
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
    global_pool: str = "token"
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


def complete(spec: Dinov2Spec) -> Dinov2Spec:
    """The spec with all that transformers' model always has: only without registers it may lack a mask token."""
    has_mask_token = spec.mask_token or spec.num_register_tokens > 0
    return replace(spec, mask_token=has_mask_token, proj_bias=True, ffn_bias=True, layer_scale=True)


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
