"""A transformers config from a table that is read both ways: field of the config to field of the spec."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    if labels or spec.task != "backbone":
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
