"""DINOv3: what a model is made of, and its transformers config."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conversion.families import configs, vit
from conversion.families.configs import VIT_FIELDS, ConfigTable, read_fields, read_lacking, write_lacking
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BESIDE_CONFIG = vit.BESIDE_CONFIG | {"input_size"}
"""Fields of the spec that transformers' config has no place for."""

FIELDS: ConfigTable = {
    **VIT_FIELDS,
    "intermediate_size":   "hidden_dim",
    "num_register_tokens": "num_storage_tokens",
    "rope_theta":          "rope_theta",
    "use_gated_mlp":       "is_gated",
    "query_bias":          "qkv_bias",
    "key_bias":            "key_bias",
    "value_bias":          "qkv_bias",
    "proj_bias":           "proj_bias",
    "mlp_bias":            "ffn_bias",
}  # fmt: skip
"""Field of the config to field of the spec."""

LOCAL_CLS_NORM = "local_cls_norm"
"""Field of a converted model's config where the original has a norm for local crops; transformers has none, and keeps
fields that it does not know. No output depends on it."""


@dataclass(frozen=True, kw_only=True)
class Dinov3Spec(Spec):
    """All that the architecture depends on.

    Attributes:
        image_size: side in pixels of the images that are verified first; the model takes any, and has no native one.
        hidden_dim: width of the feed-forward's hidden layer.
        is_gated: the feed-forward is gated (SwiGLU); else it is a plain one with GELU.
        num_storage_tokens: which other models call registers.
        rope_theta: base of the periods of rotary positions.
        qkv_bias: query and value have a bias.
        key_bias: key has one, too; in the official models it is masked.
        proj_bias, ffn_bias: whether these layers have biases, by the names in the training's config.
        layer_scale: each residual branch has a learned factor per channel.
        mask_token: every model has one after the authors' training.
        storage_tokens: there is a tensor of them, which may be of none.
        local_cls_norm: training has a norm of its own for the class token of local crops. No output depends on it.
        input_size: side in pixels of the images that the image processor makes; None for the usual one.
    """

    image_size: int = 224
    hidden_dim: int
    is_gated: bool
    num_storage_tokens: int
    rope_theta: float = 100.0
    qkv_bias: bool = True
    key_bias: bool = False
    proj_bias: bool = True
    ffn_bias: bool = True
    layer_scale: bool = True
    mask_token: bool = True
    storage_tokens: bool = True
    local_cls_norm: bool = False
    input_size: int | None = None

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.embed_dim // self.num_heads

    @property
    def masks_key_bias(self) -> bool:
        """Whether a mask takes the bias of key away."""
        return self.qkv_bias and not self.key_bias

    @property
    def any_size(self) -> bool:
        """Rotary positions are computed for the image at hand."""
        return True

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        return "DINOv3ViTModel"


def complete(spec: Dinov3Spec) -> Dinov3Spec:
    """Complete a spec by what transformers' model always has."""
    return replace(spec, layer_scale=True, mask_token=True, storage_tokens=True)


def build_config(spec: Dinov3Spec, labels: tuple[str, ...]) -> "PretrainedConfig":
    """Build the transformers config, with every value that the outputs depend on."""
    others: dict[str, object] = {"hidden_act": "silu" if spec.is_gated else "gelu"}
    if spec.local_cls_norm:
        others[LOCAL_CLS_NORM] = True
    return configs.build_config(
        "DINOv3ViTConfig", FIELDS, spec, labels, **others, **write_lacking(spec, complete(spec))
    )


def read_config(config: "PretrainedConfig") -> Dinov3Spec:
    """Read the spec that a transformers config describes; the inverse of :func:`build_config`."""
    has = read_lacking(config, "layer_scale", "mask_token", "storage_tokens")
    return Dinov3Spec(**read_fields(FIELDS, config), **has, local_cls_norm=getattr(config, LOCAL_CLS_NORM, False))
