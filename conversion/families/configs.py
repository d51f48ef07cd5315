"""A transformers config from a table that is read both ways, and what only the config has to say of the original."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from conversion.families.labels import build_labels

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Recoded:
    """A field of the spec that a config says in other words.

    Attributes:
        field: of the spec.
        write: the config's value from the spec's.
        read: the spec's from the config's.
    """

    field: str
    write: Callable[[Any], object]
    read: Callable[[Any], object]


ORIGINAL_LACKS = "original_lacks"
"""Field of a converted model's config: what was filled in because transformers has no switch to leave it out.

The library keeps fields that it does not know, through ``save_pretrained`` too. No output depends on this one.
"""

UNLABELED = ("backbone", "feature-backbone", "masked-image-modeling", "depth-estimation")
"""Tasks of models that tell no classes apart."""

ConfigTable = Mapping[str, str | Recoded]

VIT_FIELDS: ConfigTable = {
    "hidden_size":          "embed_dim",
    "num_hidden_layers":    "depth",
    "num_attention_heads":  "num_heads",
    "layer_norm_eps":       "layer_norm_eps",
    "image_size":           "image_size",
    "patch_size":           "patch_size",
    "num_channels":         "num_channels",
}  # fmt: skip
"""Of every vision transformer."""


def build_config(
    config_class: str, table: ConfigTable, spec: Any, labels: tuple[str, ...], **others: object
) -> "PretrainedConfig":
    """Build a transformers config; what its outputs depend on is to be written out, transformers' defaults too.

    Args:
        config_class: its name in transformers.
        labels: class names, in the order of the logits; none of a backbone.
        others: fields that always have one value, or follow from several of the spec's.
    """
    import transformers

    values: dict[str, object] = {"architectures": [spec.hf_class], **others}
    for name, row in table.items():
        values[name] = getattr(spec, row) if isinstance(row, str) else row.write(getattr(spec, row.field))
    if labels or spec.task not in UNLABELED:
        values |= build_labels(labels)
    config: PretrainedConfig = getattr(transformers, config_class)(**values)
    return config


def read_fields(table: ConfigTable, config: "PretrainedConfig") -> dict[str, Any]:
    """Fields of the spec that a config describes: those of the table, and the number of classes.

    Transformers counts two classes where a config says nothing, as that of a backbone.
    """
    read = {
        row if isinstance(row, str) else row.field: value if isinstance(row, str) else row.read(value)
        for name, row in table.items()
        for value in (getattr(config, name),)
    }
    has_classes = "For" in (config.architectures or [""])[0]
    return {**read, "num_classes": len(config.id2label or ()) if has_classes else 0}


def write_lacking(spec: Any, whole: Any) -> dict[str, list[str]]:
    """Write the config's field for a spec; none where the original lacks nothing.

    Args:
        whole: the same spec with all that transformers' model always has.
    """
    lacking = [field.name for field in fields(spec) if getattr(spec, field.name) != getattr(whole, field.name)]
    return {ORIGINAL_LACKS: lacking} if lacking else {}


def read_lacking(config: "PretrainedConfig", *names: str) -> dict[str, Any]:
    """Read from a config whether the original has each of these parts."""
    lacking = getattr(config, ORIGINAL_LACKS, None) or ()
    return {name: name not in lacking for name in names}
