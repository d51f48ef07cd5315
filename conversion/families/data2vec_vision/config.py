"""Data2Vec-Vision: what a model is made of, and its transformers config."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from conversion.families import configs
from conversion.families.configs import VIT_FIELDS, ConfigTable, Recoded, read_fields, read_lacking, write_lacking
from conversion.families.images import Channels
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LAYER_SCALE_INIT = 0.1
"""transformers' default: where it is above 0, blocks have a layer scale, which is loaded and not initialised."""

OUT_INDICES_SHIFT = 2
"""transformers takes the output of block i for a feature where its config's ``out_indices`` has i + 2."""

HF_CLASSES = {
    "backbone": "Data2VecVisionModel",
    "image-classification": "Data2VecVisionForImageClassification",
    "semantic-segmentation": "Data2VecVisionForSemanticSegmentation",
}

FIELDS: ConfigTable = {
    **VIT_FIELDS,
    "intermediate_size":                    "hidden_dim",
    "use_mask_token":                       "mask_token",
    "use_absolute_position_embeddings":     "absolute_positions",
    "use_relative_position_bias":           "block_position_bias",
    "use_shared_relative_position_bias":    "shared_position_bias",
    "use_mean_pooling":                     "mean_pooling",
    "layer_scale_init_value": Recoded(
        "layer_scale", lambda has: LAYER_SCALE_INIT if has else 0.0, lambda init: init > 0
    ),
}  # fmt: skip
"""Field of the config to field of the spec."""

SEGMENTATION_FIELDS: ConfigTable = {
    "out_indices": Recoded(
        "out_indices",
        lambda blocks: [index + OUT_INDICES_SHIFT for index in blocks],
        lambda shifted: tuple(index - OUT_INDICES_SHIFT for index in shifted),
    ),
    "pool_scales": Recoded("pool_scales", list, tuple),
}


@dataclass(frozen=True, kw_only=True)
class Data2VecVisionSpec(Spec):
    """All that the architecture depends on.

    Attributes:
        hidden_dim: width of the feed-forward's hidden layer.
        shared_position_bias: one table of relative positions for all blocks.
        block_position_bias: a table of relative positions in each block.
        absolute_positions: position embeddings added to the tokens.
        mean_pooling: the mean of the patch tokens is pooled, and there is no final norm; else the CLS token.
        num_classes: 0 for a backbone, and for a classifier without its last layer, as timm makes it for features: then
            transformers' "logits" are what is pooled.
        out_indices: of segmentation, the blocks whose outputs the feature pyramid is made of.
        pool_scales: of segmentation, the sides of UPerNet's pooled maps.
        auxiliary_channels: of segmentation, width of the auxiliary head; 0 if there is none.
        qkv_bias: query and value have a bias.
        layer_scale: each residual branch has a learned factor per channel.
    """

    hidden_dim: int
    task: Literal["backbone", "image-classification", "semantic-segmentation"] = "backbone"
    shared_position_bias: bool = False
    block_position_bias: bool = False
    absolute_positions: bool = False
    mean_pooling: bool = False
    out_indices: tuple[int, ...] = ()
    pool_scales: tuple[int, ...] = ()
    auxiliary_channels: int = 0
    image_mean: Channels | None = None
    image_std: Channels | None = None
    qkv_bias: bool = True
    layer_scale: bool = True

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
    """Complete a spec by what transformers' model always has: a bias of query and value."""
    return replace(spec, qkv_bias=True)


def build_config(spec: Data2VecVisionSpec, labels: tuple[str, ...]) -> "PretrainedConfig":
    """Build the transformers config, with every value that the outputs depend on.

    Args:
        labels: class names, in the order of the logits; none of a backbone.
    """
    table, others = FIELDS, dict[str, object](write_lacking(spec, complete(spec)))
    if spec.task == "semantic-segmentation":
        table = {**FIELDS, **SEGMENTATION_FIELDS}
        others |= {
            "use_auxiliary_head": bool(spec.auxiliary_channels),
            "auxiliary_num_convs": 1,
            "auxiliary_concat_input": False,
        }
    if spec.auxiliary_channels:
        others["auxiliary_channels"] = spec.auxiliary_channels
    return configs.build_config("Data2VecVisionConfig", table, spec, labels, hidden_act="gelu", **others)


def read_config(config: "PretrainedConfig") -> Data2VecVisionSpec:
    """Read the spec that a transformers config describes; the inverse of :func:`build_config`."""
    architecture = (config.architectures or ["Data2VecVisionModel"])[0]
    task: Any = next((task for task, name in HF_CLASSES.items() if name == architecture), "backbone")
    values = read_fields(FIELDS, config) | read_lacking(config, "qkv_bias")
    if task == "semantic-segmentation":
        values |= read_fields(SEGMENTATION_FIELDS, config)
        values["auxiliary_channels"] = config.auxiliary_channels if config.use_auxiliary_head else 0
    if task == "backbone":
        values["num_classes"] = 0
    return Data2VecVisionSpec(task=task, **values)
