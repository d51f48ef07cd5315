"""Tensors that transformers' model always has and an original may lack: filled in so that they change nothing."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from conversion.errors import KeyMapError
from conversion.families.base import Family, Spec
from conversion.families.configs import ORIGINAL_LACKS
from conversion.mapping import key_map
from conversion.mapping.key_map import StateDict

BLOCK = re.compile(r"\.\d+\.")


def expand_filled(family: Family[Any], spec: Spec, major: int | None = None) -> dict[str, tuple[str, ...]]:
    """Every original key that is filled in, to its target keys in the layout of a major version of transformers."""
    own = family.expand_key_map(spec, major)
    whole = family.expand_key_map(family.complete(spec), major)
    return {key: names for key, names in whole.items() if key not in own}


def list_layout(family: Family[Any], spec: Spec, major: int | None = None) -> set[str]:
    """Every key of a converted model, in the layout of a major version of transformers."""
    return key_map.list_placed(family.expand_key_map(family.complete(spec), major))


def fill_in(family: Family[Any], spec: Spec, like: StateDict, major: int | None = None) -> dict[str, Tensor]:
    """What is filled in, in the on-disk layout: zeros where it is added, ones where it is multiplied with.

    Args:
        like: the original's tensors, of whose widest dtype, and on whose device, these are.
    """
    expanded = expand_filled(family, spec, major)
    if not expanded:
        return {}
    widest = reduce(torch.promote_types, [tensor.dtype for tensor in like.values() if tensor.is_floating_point()])
    device = next(iter(like.values())).device
    shapes = family.converted_shapes(family.complete(spec))
    filled = {key: torch.full(shapes[key], choose_value(family, key), dtype=widest, device=device) for key in expanded}
    return key_map.convert(filled, expanded)


def choose_value(family: Family[Any], key: str) -> float:
    """What changes nothing in the place of an original's tensor."""
    return 1.0 if any(fnmatchcase(key, pattern) for pattern in family.filled_with_ones) else 0.0


def describe_filled(family: Family[Any], spec: Spec) -> Iterator[str]:
    """A line for what is filled in with zeros, and one for what is filled in with ones."""
    partly = {BLOCK.sub(".*.", key) for key in family.expand_key_map(spec)}  # what other blocks have
    keys: dict[float, list[str]] = {}
    for key in expand_filled(family, spec):
        keys.setdefault(choose_value(family, key), []).append(key)
    for value, filled in keys.items():
        names = dict.fromkeys(key if (name := BLOCK.sub(".*.", key)) in partly else name for key in filled)
        yield (
            f"not in the checkpoint, and always in transformers' model: {', '.join(names)}. "
            f"{'Ones' if value else 'Zeros'} stand for {'it' if len(filled) == 1 else 'them'}, which change no output; "
            "restoring leaves them out"
        )


def take_out_filled(family: Family[Any], spec: Spec, state_dict: StateDict, major: int | None) -> dict[str, Tensor]:
    """A converted state dict without what was filled in, which must still be what it was.

    Raises:
        KeyMapError: it is not, as after further training; what is missing is found out afterwards.
    """
    expanded = expand_filled(family, spec, major)
    values = {name: choose_value(family, key) for key, names in expanded.items() for name in names}
    changed = [
        f"{name}: not all {values[name]:g}"
        for name in values.keys() & state_dict.keys()
        if not state_dict[name].is_meta and not bool((state_dict[name] == values[name]).all())
    ]
    if changed:
        raise KeyMapError(
            "Tensors that the conversion filled in have changed since; the original has none of these.",
            sorted(changed),
            f"To have them in the restored model, take {ORIGINAL_LACKS!r} out of config.json.",
        )
    return {name: tensor for name, tensor in state_dict.items() if name not in values}
