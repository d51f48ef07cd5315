"""Data2Vec-Vision: what a model is made of, and its transformers config."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from conversion.families.images import Channels
from conversion.families.labels import build_labels
from conversion.families.lacking import read_lacking, write_lacking

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BESIDE_CONFIG = frozenset({"image_mean", "image_std", "crop_pct", "interpolation"})
"""Fields of the spec that transformers' config has no place for."""

CROP_PCT = 224 / 256
"""Of the original's evaluation below 384 pixels."""

LAYER_SCALE_INIT = 0.1
"""transformers' default: where it is above 0, blocks have a layer scale, which is loaded and not initialised."""

OUT_INDICES_SHIFT = 2
"""transformers takes the output of block i for a feature where its config's ``out_indices`` has i + 2."""

HF_CLASSES = {
    "backbone": "Data2VecVisionModel",
    "image-classification": "Data2VecVisionForImageClassification",
    "semantic-segmentation": "Data2VecVisionForSemanticSegmentation",
}


@dataclass(frozen=True)
class Data2VecVisionSpec:
    """All that the architecture depends on.

    Attributes:
        embed_dim: width D of the tokens.
        hidden_dim: width of the feed-forward's hidden layer.
        patch_size: side of a patch, in pixels.
        image_size: side of the images, in pixels; there is no other size.
        shared_position_bias: one table of relative positions for all blocks.
        block_position_bias: a table of relative positions in each block.
        absolute_positions: position embeddings added to the tokens.
        mask_token: patches can be masked.
        mean_pooling: the mean of the patch tokens is pooled, and there is no final norm; else the CLS token.
        num_classes: of the classifier or the segmentation; 0 for a backbone, and for a classifier without its last
            layer, as timm makes it for features: then transformers' "logits" are what is pooled.
        out_indices: of segmentation, the blocks whose outputs the feature pyramid is made of.
        pool_scales: of segmentation, the sides of UPerNet's pooled maps.
        auxiliary_channels: of segmentation, width of the auxiliary head; 0 if there is none.
        layer_norm_eps: of every layer norm.
        image_mean, image_std: of the normalisation of images in a range of 0 to 1; None where nobody told.
        crop_pct: share of the short edge that the original's centre crop keeps.
        interpolation: of images, by name.
        num_channels: of the images.
        qkv_bias: query and value have a bias.
        layer_scale: each residual branch has a learned factor per channel.
    """

    embed_dim: int
    depth: int
    num_heads: int
    hidden_dim: int
    patch_size: int
    image_size: int
    task: Literal["backbone", "image-classification", "semantic-segmentation"]
    shared_position_bias: bool = False
    block_position_bias: bool = False
    absolute_positions: bool = False
    mask_token: bool = False
    mean_pooling: bool = False
    num_classes: int = 0
    out_indices: tuple[int, ...] = ()
    pool_scales: tuple[int, ...] = ()
    auxiliary_channels: int = 0
    layer_norm_eps: float = 1e-6
    image_mean: Channels | None = None
    image_std: Channels | None = None
    crop_pct: float = CROP_PCT
    interpolation: str = "bicubic"
    num_channels: int = 3
    qkv_bias: bool = True
    layer_scale: bool = True

    @property
    def window(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def any_size(self) -> bool:
        """Tables of relative positions are made for one size."""
        return False

    @property
    def is_pooled(self) -> bool:
        """Whether it is a classifier without its last layer."""
        return self.task == "image-classification" and not self.num_classes

    @property
    def hf_prefix(self) -> str:
        """Where the backbone lives in transformers' module tree and keys."""
        return "" if self.task == "backbone" else "data2vec_vision."

    @property
    def original_prefix(self) -> str:
        """Where the backbone lives in the original's."""
        return "backbone." if self.task == "semantic-segmentation" else ""

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        return HF_CLASSES[self.task]


def complete(spec: Data2VecVisionSpec) -> Data2VecVisionSpec:
    """The spec with all that transformers' model always has: its query and value have a bias."""
    return replace(spec, qkv_bias=True)


def build_config(spec: Data2VecVisionSpec, labels: tuple[str, ...]) -> "PretrainedConfig":
    """The transformers config, every value written out that the outputs depend on.

    Args:
        labels: class names, in the order of the logits; none of a backbone.
    """
    from transformers import Data2VecVisionConfig

    values: dict[str, Any] = {
        "architectures": [spec.hf_class],
        "hidden_size": spec.embed_dim,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.num_heads,
        "intermediate_size": spec.hidden_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": spec.layer_norm_eps,
        "image_size": spec.image_size,
        "patch_size": spec.patch_size,
        "num_channels": spec.num_channels,
        "layer_scale_init_value": LAYER_SCALE_INIT if spec.layer_scale else 0.0,
        "use_mask_token": spec.mask_token,
        "use_absolute_position_embeddings": spec.absolute_positions,
        "use_relative_position_bias": spec.block_position_bias,
        "use_shared_relative_position_bias": spec.shared_position_bias,
        "use_mean_pooling": spec.mean_pooling,
        **write_lacking(spec, complete(spec)),
    }
    if spec.task == "semantic-segmentation":
        values |= {
            "out_indices": [index + OUT_INDICES_SHIFT for index in spec.out_indices],
            "pool_scales": list(spec.pool_scales),
            "use_auxiliary_head": bool(spec.auxiliary_channels),
            "auxiliary_num_convs": 1,
            "auxiliary_concat_input": False,
        }
    if spec.auxiliary_channels:
        values["auxiliary_channels"] = spec.auxiliary_channels
    if labels or spec.is_pooled:
        values |= build_labels(labels)
    return Data2VecVisionConfig(**values)


def read_config(config: "PretrainedConfig") -> Data2VecVisionSpec:
    """The spec that a transformers config describes; the inverse of :func:`build_config`."""
    architecture = (config.architectures or ["Data2VecVisionModel"])[0]
    task: Any = next((task for task, name in HF_CLASSES.items() if name == architecture), "backbone")
    is_segmentation = task == "semantic-segmentation"
    return Data2VecVisionSpec(
        embed_dim=config.hidden_size,
        depth=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_dim=config.intermediate_size,
        patch_size=config.patch_size,
        image_size=config.image_size,
        task=task,
        shared_position_bias=config.use_shared_relative_position_bias,
        block_position_bias=config.use_relative_position_bias,
        absolute_positions=config.use_absolute_position_embeddings,
        mask_token=config.use_mask_token,
        mean_pooling=config.use_mean_pooling,
        num_classes=0 if task == "backbone" else len(config.id2label or ()),
        out_indices=tuple(index - OUT_INDICES_SHIFT for index in config.out_indices) if is_segmentation else (),
        pool_scales=tuple(config.pool_scales) if is_segmentation else (),
        auxiliary_channels=config.auxiliary_channels if is_segmentation and config.use_auxiliary_head else 0,
        layer_norm_eps=config.layer_norm_eps,
        num_channels=config.num_channels,
        layer_scale=config.layer_scale_init_value > 0,
        **read_lacking(config, "qkv_bias"),
    )
