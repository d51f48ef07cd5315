"""The spec in a card: whether its fields are those of the family, with values that some model can have."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from conversion.artifact.weights import AGAIN
from conversion.errors import ArtifactError
from conversion.families.base import load_family
from conversion.families.images import RESAMPLING
from conversion.families.settings import list_families
from conversion.state_dicts.folder import DEEPEST

CAN_BE_ZERO = {
    "num_classes",
    "num_register_tokens",
    "num_storage_tokens",
    "num_cls_layers",
    "vocab_size",
    "auxiliary_channels",
    "max_depth",
    "interpolate_offset",
    "out_indices",
}
"""Fields with numbers that may be 0; all others are above."""

BELOW_ZERO = {"image_mean"}
"""Fields with numbers that may be negative."""

LARGEST = {"depth": DEEPEST}
"""Field to its largest value, where it is less than that of all."""

LARGEST_OF_ALL = 2**31 - 1
"""No width, size or count of a model is larger."""


def check_spec(card: Mapping[str, Any], path: Path) -> None:
    """Check that a card's spec is one of its family, before anything is computed from it.

    Args:
        path: where the card was read, for the message.

    Raises:
        ArtifactError: it is not, with every field.
    """
    if card["family"] not in list_families():
        headline = f"{path}: describes a model of a family that is not known: {card['family']!r:.80}."
        raise ArtifactError(headline, hint=AGAIN)
    problems = list(find_spec_problems(load_family(card["family"]).build_spec, card["spec"]))
    if problems:
        raise ArtifactError(f"{path}: its spec is of no {card['family']} model.", problems, AGAIN)


def find_spec_problems(spec_class: Any, found: Mapping[str, Any]) -> Iterator[str]:
    """List the fields of a spec, as JSON has them, that are not there, not known, or have a value of no model."""
    hints = {name: hint for name, hint in get_type_hints(spec_class).items() if get_origin(hint) is not ClassVar}
    needed = [field.name for field in fields(spec_class) if field.default is MISSING]
    yield from (f"spec {name}: not there" for name in needed if name not in found)
    for name, value in found.items():
        if name not in hints:
            yield f"spec {name}: no such field"
        elif not (_is_of(hints[name], value) and all(_is_possible(name, each) for each in _list_numbers(value))):
            yield f"spec {name}: {value!r:.80}, not {_describe(name, hints[name])}"
        elif name == "interpolation" and value not in RESAMPLING:
            yield f"spec {name}: {value!r:.80}, not one of {', '.join(RESAMPLING)}"


def _describe(name: str, hint: Any) -> str:
    """Describe the values that a field can have."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(_describe(name, part) for part in parts)
    if kind is Literal:
        return f"one of {', '.join(parts)}"
    if kind is tuple:
        length = "a list" if parts[-1] is Ellipsis else f"a list of {len(parts)}"
        return f"{length}, each {_describe(name, parts[0])}"
    if hint in (int, float):
        least = "" if name in BELOW_ZERO else " from 0 up" if name in CAN_BE_ZERO else " above 0"
        most = LARGEST.get(name, LARGEST_OF_ALL)
        return f"a {'whole ' if hint is int else ''}number{least}, at most {most:,}"
    return {bool: "true or false", str: "a text", NoneType: "null"}[hint]


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a JSON value is of a field's type; a whole number is a float, too, and an array a tuple."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_is_of(part, value) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is tuple:
        length = isinstance(value, list) and (parts[-1] is Ellipsis or len(value) == len(parts))
        return length and all(_is_of(parts[0], each) for each in value)
    if hint is NoneType:
        return value is None
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if hint is float else hint)


def _list_numbers(value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]


def _is_possible(name: str, number: float) -> bool:
    if name in BELOW_ZERO:
        return math.isfinite(number)
    is_zero = number == 0 and name in CAN_BE_ZERO
    return is_zero or 0 < number <= LARGEST.get(name, LARGEST_OF_ALL)
