"""BEiT's architecture: what a model is made of, and its transformers config."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from conversion.families import configs
from conversion.families.configs import (
    UNLABELED,
    VIT_FIELDS,
    ConfigTable,
    Recoded,
    read_fields,
    read_lacking,
    write_lacking,
)
from conversion.families.images import Channels
from conversion.families.vit import Spec

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LAYER_SCALE_INIT = 0.1
"""transformers' default: where it is above 0, blocks have a layer scale, which is loaded and not initialised."""

OUT_INDICES_SHIFT = 2
"""transformers takes the output of block i for a feature where its config's ``out_indices`` has i + 2."""

HEADS = {
    "backbone": "Model",
    "masked-image-modeling": "ForMaskedImageModeling",
    "image-classification": "ForImageClassification",
    "semantic-segmentation": "ForSemanticSegmentation",
}
"""How the name of a transformers class ends, by task; it begins with the family's."""

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
class BeitLikeSpec(Spec):
    """All that the architecture depends on.

    Attributes:
        HF_NAME: how transformers calls the family in the names of its classes.
        HF_PREFIX: where the backbone lives in the module tree of a transformers class with a head.
        hidden_dim: width of the feed-forward's hidden layer.
        shared_position_bias: one table of relative positions for all blocks.
        block_position_bias: a table of relative positions in each block.
        absolute_positions: position embeddings added to the tokens.
        mean_pooling: the mean of the patch tokens is pooled, and there is no final norm; else the CLS token.
        vocab_size: of masked image modeling, the number of visual words that its head tells apart.
        num_classes: 0 for a backbone, and for a classifier without its last layer, as timm makes it for features: then
            transformers' "logits" are what is pooled.
        out_indices: of segmentation, the blocks whose outputs the feature pyramid is made of.
        pool_scales: of segmentation, the sides of UPerNet's pooled maps.
        auxiliary_channels: of segmentation, width of the auxiliary head; 0 if there is none.
        qkv_bias: query and value have a bias.
        layer_scale: each residual branch has a learned factor per channel.
    """

    HF_NAME: ClassVar[str]
    HF_PREFIX: ClassVar[str]

    hidden_dim: int
    task: Literal["backbone", "masked-image-modeling", "image-classification", "semantic-segmentation"] = "backbone"
    shared_position_bias: bool = False
    block_position_bias: bool = False
    absolute_positions: bool = False
    mean_pooling: bool = False
    vocab_size: int = 0
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
        return "" if self.task == "backbone" else self.HF_PREFIX

    @property
    def original_prefix(self) -> str:
        """Where the backbone lives in the original's."""
        return "backbone." if self.task == "semantic-segmentation" else ""

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        return self.HF_NAME + HEADS[self.task]


def limit_out_indices(out_indices: Sequence[int], depth: int) -> tuple[int, ...]:
    """Find the blocks nearest to these, in order, of whose outputs transformers' BEiT can make its features.

    Its config counts the last one's as ``depth + 1``, and takes no number above ``depth``, nor any twice. Block -1 is
    what comes before the first.
    """
    last = depth - 1 - len(out_indices)
    return tuple(min(index, last + place) for place, index in enumerate(out_indices))


S = TypeVar("S", bound=BeitLikeSpec)


def complete(spec: S) -> S:
    """Complete a spec by what transformers' model always has: a bias of query and value."""
    return replace(spec, qkv_bias=True)


def build_config(spec: BeitLikeSpec, labels: tuple[str, ...], **own: object) -> "PretrainedConfig":
    """Build the transformers config, with every value that the outputs depend on.

    Args:
        labels: class names, in the order of the logits; none of a backbone.
        own: fields of the family's own.
    """
    table, others = FIELDS, {**own, **write_lacking(spec, complete(spec))}
    if spec.task == "masked-image-modeling":
        # its class has the final norm outside of the backbone, whose own is then none
        others |= {"vocab_size": spec.vocab_size, "use_mean_pooling": True}
        table = {name: row for name, row in FIELDS.items() if name not in others}
    if spec.task == "semantic-segmentation":
        table = {**FIELDS, **SEGMENTATION_FIELDS}
        others |= {
            "use_auxiliary_head": bool(spec.auxiliary_channels),
            "auxiliary_num_convs": 1,
            "auxiliary_concat_input": False,
        }
    if spec.auxiliary_channels:
        others["auxiliary_channels"] = spec.auxiliary_channels
    return configs.build_config(f"{spec.HF_NAME}Config", table, spec, labels, hidden_act="gelu", **others)


def read_config(spec_class: type[S], config: "PretrainedConfig", **own: Any) -> S:
    """Read the spec that a transformers config describes; the inverse of :func:`build_config`.

    Args:
        own: fields of the spec that the family alone has.
    """
    architecture = (config.architectures or [""])[0].removeprefix(spec_class.HF_NAME)
    task: Any = next((task for task, ending in HEADS.items() if ending == architecture), "backbone")
    values = read_fields(FIELDS, config) | read_lacking(config, "qkv_bias")
    if task == "masked-image-modeling":
        values |= {"vocab_size": config.vocab_size, "mean_pooling": False}
    if task == "semantic-segmentation":
        values |= read_fields(SEGMENTATION_FIELDS, config)
        values["auxiliary_channels"] = config.auxiliary_channels if config.use_auxiliary_head else 0
    if task in UNLABELED:
        values["num_classes"] = 0
    return spec_class(task=task, **values, **own)
