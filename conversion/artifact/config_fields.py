"""The fields of a transformers config, those of a config within it among them, as JSON has them."""

import copy
import json
from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from conversion.artifact.weights import AGAIN
from conversion.errors import ArtifactError
from conversion.state_dicts.folder import CONFIG

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def list_fields(config: "PretrainedConfig") -> dict[str, Any]:
    """Every field of a config, those with defaults included, as JSON has them."""
    try:
        fields: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=_write_dtype, sort_keys=True))
    except (TypeError, ValueError) as error:  # keys of several types
        raise ArtifactError(f"{CONFIG}: holds what JSON does not ({error}).", hint=AGAIN) from error
    return flatten(fields)


def _write_dtype(value: object) -> str:
    """A dtype by its name; transformers 4 leaves that of a config within another as it is."""
    import torch

    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    raise TypeError(f"a {type(value).__name__}")


def flatten(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a config, those of a config in it under its name and their own, with a point between."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        is_config = isinstance(value, Mapping) and "model_type" in value
        flat |= {f"{name}.{field}": each for field, each in value.items()} if is_config else {name: value}
    return flat


def set_field(config: "PretrainedConfig", field: str, value: object) -> None:
    """Give a field another value, by its name as of :func:`flatten`."""
    setattr(*_locate(config, field), value)


def _locate(config: "PretrainedConfig", field: str) -> tuple[Any, str]:
    """The config that has this field, and its name there."""
    *parts, name = field.split(".")
    return reduce(getattr, parts, config), name


def mend(config: "PretrainedConfig", wanted: "PretrainedConfig", field: str) -> Any:
    """A config with one field as it should be."""
    mended = copy.deepcopy(config)
    set_field(mended, field, getattr(*_locate(wanted, field), None))
    return mended
