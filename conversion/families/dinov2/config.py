"""DINOv2: what a model is made of, and its transformers config."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from conversion.errors import CheckpointError
from conversion.families import configs, vit
from conversion.families.configs import VIT_FIELDS, ConfigTable, Recoded, read_fields, read_lacking, write_lacking
from conversion.families.feed_forward import reckon_swiglu_width
from conversion.families.told import write_value
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BESIDE_CONFIG = vit.BESIDE_CONFIG | {"input_size", "global_pool", "interpolate_offset", "interpolate_antialias"}
"""Fields of the spec that transformers' config has no place for."""

FEATURE_FLAGS = ("apply_layernorm", "reshape_hidden_states")
"""Fields of spec and config that say how transformers' feature backbone returns the outputs of blocks."""

RETURNED = frozenset({"out_indices", *FEATURE_FLAGS})
"""Fields of the spec that say what transformers' model returns; the original is the same whatever they are."""

FIELDS: ConfigTable = {
    **VIT_FIELDS,
    "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias",
    "use_swiglu_ffn": Recoded("ffn", lambda ffn: ffn == "swiglu", lambda is_gated: "swiglu" if is_gated else "mlp"),
}
"""Field of the config to field of the spec."""


@dataclass(frozen=True, kw_only=True)
class Dinov2Spec(Spec):
    """All that the architecture depends on.

    Attributes:
        ffn: ``"mlp"``, or ``"swiglu"`` as in the giant.
        num_register_tokens: 0 for a plain model.
        num_classes: of the 1-layer linear head; 0 for a backbone.
        global_pool: of a linear head on one vector, whether that is the CLS token or the mean of the patches ("avg").
        interpolate_offset, interpolate_antialias: how position embeddings are resampled for another size than native:
            added to the patch grid, and whether with antialias. None where nobody told: then no other size is claimed.
        input_size: side in pixels of the images that the image processor makes; None for the usual one.
        mlp_ratio: width of the feed-forward's hidden layer in widths of the tokens, before a gate takes its share;
            a whole number, but for transformers 4.
        mask_token: every model has one after the authors' training.
        qkv_bias, proj_bias, ffn_bias: whether these layers have biases, by the names in the training's config.
        layer_scale: each residual branch has a learned factor per channel.
        out_indices: blocks, counted from 0, or from the last as -1, whose outputs a feature backbone returns; none of
            any other model.
        apply_layernorm, reshape_hidden_states: whether each of these goes through the final norm, and whether it is
            returned as a map of its patches; None where there are none.
    """

    ffn: Literal["mlp", "swiglu"]
    num_register_tokens: int
    global_pool: str = "token"
    interpolate_offset: float | None = None
    interpolate_antialias: bool | None = None
    input_size: int | None = None
    mlp_ratio: float = 4
    mask_token: bool = True
    qkv_bias: bool = True
    proj_bias: bool = True
    ffn_bias: bool = True
    layer_scale: bool = True
    out_indices: tuple[int, ...] = ()
    apply_layernorm: bool | None = None
    reshape_hidden_states: bool | None = None

    def __post_init__(self) -> None:
        """Count blocks from the first; what is returned goes through the norm and is a map, unless told otherwise."""
        blocks = tuple(index + self.depth if index < 0 else index for index in self.out_indices)
        object.__setattr__(self, "out_indices", blocks)
        for name in FEATURE_FLAGS:
            told = getattr(self, name)
            object.__setattr__(self, name, (told is None or told) if blocks else None)

    @property
    def hidden_dim(self) -> int:
        """Width of the feed-forward's hidden layer."""
        width = int(self.mlp_ratio * self.embed_dim)
        return width if self.ffn == "mlp" else reckon_swiglu_width(width)

    @property
    def any_size(self) -> bool:
        """Position embeddings are resampled to any size, where it is known how."""
        return self.interpolate_offset is not None and self.interpolate_antialias is not None

    @property
    def task(self) -> str:
        """What the model is for."""
        return "feature-backbone" if self.out_indices else super().task

    @property
    def takes_masks(self) -> bool:
        """Whether patches can be masked: transformers' feature backbone takes no masks."""
        return self.mask_token and not self.out_indices

    @property
    def original_prefix(self) -> str:
        """Where the backbone lives in the original's module tree and keys."""
        return ""

    @property
    def hf_prefix(self) -> str:
        """Where the backbone lives in transformers' module tree and keys."""
        prefix = "dinov2_with_registers." if self.num_register_tokens else "dinov2."
        return prefix if self.num_classes else ""

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        base = "Dinov2WithRegisters" if self.num_register_tokens else "Dinov2"
        return base + ("Backbone" if self.out_indices else "ForImageClassification" if self.num_classes else "Model")


def complete(spec: Dinov2Spec) -> Dinov2Spec:
    """Complete a spec by what transformers' model always has: only without registers it may lack a mask token."""
    has_mask_token = spec.mask_token or spec.num_register_tokens > 0
    return replace(spec, mask_token=has_mask_token, proj_bias=True, ffn_bias=True, layer_scale=True)


def build_config(spec: Dinov2Spec, labels: tuple[str, ...]) -> "PretrainedConfig":
    """Build the transformers config, with every value that the outputs depend on.

    Args:
        labels: a classifier's class names, in the order of the logits; none of a backbone.
    """
    others: dict[str, object] = {"hidden_act": "gelu", **write_lacking(spec, complete(spec)), **_write_features(spec)}
    if spec.num_register_tokens:
        others["num_register_tokens"] = spec.num_register_tokens
        return configs.build_config("Dinov2WithRegistersConfig", FIELDS, spec, labels, **others)
    return configs.build_config("Dinov2Config", FIELDS, spec, labels, use_mask_token=spec.mask_token, **others)


def read_config(config: "PretrainedConfig") -> Dinov2Spec:
    """Read the spec that a transformers config describes; the inverse of :func:`build_config`."""
    has = read_lacking(config, "mask_token", "proj_bias", "ffn_bias", "layer_scale")
    has["mask_token"] = has["mask_token"] and getattr(config, "use_mask_token", True)
    registers = getattr(config, "num_register_tokens", 0)
    features = read_features(config) if (config.architectures or [""])[0].endswith("Backbone") else {}
    return Dinov2Spec(num_register_tokens=registers, **read_fields(FIELDS, config), **has, **features)


def _write_features(spec: Dinov2Spec) -> dict[str, object]:
    """Fields of the config that say what a feature backbone returns; it counts the embeddings as 0."""
    if not spec.out_indices:
        return {}
    if spec.num_classes:
        headline = (
            "A classifier returns logits, a feature backbone the outputs of blocks: out_indices was given for one."
        )
        raise CheckpointError(headline, hint="Leave out --out-indices (--as backbone), or the linear head.")
    if list(spec.out_indices) != sorted(set(spec.out_indices) & set(range(spec.depth))):
        headline = f"out_indices {write_value(spec.out_indices)}: not numbers of blocks, in order and each once."
        raise CheckpointError(headline, hint=f"There are {spec.depth} blocks, counted from 0: give --out-indices.")
    values: dict[str, object] = {name: getattr(spec, name) for name in FEATURE_FLAGS}
    return {"out_indices": [index + 1 for index in spec.out_indices], **values}


def read_features(config: "PretrainedConfig") -> dict[str, Any]:
    """Read from a config what a feature backbone returns, as fields of the spec."""
    flags = {name: getattr(config, name) for name in FEATURE_FLAGS}
    return {"out_indices": tuple(index - 1 for index in config.out_indices), **flags}
