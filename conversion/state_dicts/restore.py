"""The on-disk layout of transformers: whose it is, which major version reads it, and the way back from it."""

import warnings
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from conversion.errors import CheckpointError, ConversionWarning, KeyMapError
from conversion.families.base import Family, Spec, families
from conversion.families.target import TRANSFORMERS_MAJORS
from conversion.mapping import key_map
from conversion.mapping.key_map import StateDict
from conversion.mapping.tensors import fuse_rows
from conversion.state_dicts.filled import BLOCK, list_layout, take_out_filled

if TYPE_CHECKING:
    from transformers import PretrainedConfig


SAME_ACTIVATIONS: dict[object, tuple[str, ...]] = {"gelu": ("gelu_python",)}
"""Other names that transformers has for an activation."""


def restore(state_dict: StateDict, config: "PretrainedConfig", dropped: StateDict | None = None) -> dict[str, Tensor]:
    """The inverse of :func:`conversion.convert`: the original state dict, bit for bit.

    Tensors that follow from the model's size are computed again. Those that the conversion filled in, as the config
    says, are left out. Those that have no place in the converted model are put back where the caller still has them; a
    warning names those that are gone. A linear head comes back as ``linear_head.weight`` and ``linear_head.bias``; of a
    model with a baked image size, ``pos_embed`` comes back baked.

    Args:
        state_dict: on-disk layout, of any major version of transformers.
        config: its transformers config.
        dropped: the original state dict, or what of it the conversion left out.

    Raises:
        CheckpointError: no family produces this type of model.
        KeyMapError: keys do not add up, what was left out has another shape, or what was filled in was trained since.
    """
    restored, gone = restore_whole(state_dict, config, dropped)
    if gone:
        warnings.warn(f"{gone[0].upper()}{gone[1:]}.", ConversionWarning, stacklevel=2)
    return restored


def restore_whole(
    state_dict: StateDict, config: "PretrainedConfig", dropped: StateDict | None = None
) -> tuple[dict[str, Tensor], str]:
    """What :func:`restore` gives; and, in place of its warning, what is gone, in words, empty if nothing.

    Raises:
        CheckpointError, KeyMapError: as :func:`restore`.
    """
    family = find_family(config)
    spec = family.read_config(config)
    left_out = {key: tensor for key, tensor in (dropped or {}).items() if family.explain_absence(key)}
    original = family.original_tensors(spec)
    problems = [
        f"{key}: {tuple(tensor.shape)}, expected {tuple(original[key].shape)}"
        for key, tensor in left_out.items()
        if key in original and tensor.shape != original[key].shape
    ]
    if problems:
        raise KeyMapError("What was left out is of another model.", problems, "Give the original of this very model.")
    parts = {key: fuse_rows(each) for key, each in list_parts(state_dict, config, left_out)}
    _check_shapes(parts, original)  # before what follows from the model's size is computed, which can fill the memory
    derived = {key: tensor.clone() for key, tensor in family.derive(spec).items()}  # each in memory of its own
    restored = {**family.fallback(spec), **left_out, **parts, **derived}
    backbone = getattr(config, "backbone_config", None) or config  # a head's blocks have no activation to choose
    _check_activation(backbone, family.list_open(key_map.shapes_of(restored)).get("hidden_act"))
    in_order = [key for key in original if key in restored]
    ordered = {key: restored[key] for key in [*in_order, *(restored.keys() - original.keys())]}
    unplaced = key_map.list_unplaced(family.expand_key_map(spec))
    lost = describe_lost(family, [key for key in unplaced if key in restored and key not in left_out])
    return ordered, "; ".join(filter(None, [describe_gone(family, original, restored), lost]))


def _check_shapes(parts: StateDict, original: StateDict) -> None:
    """Refuse tensors of another model than the config's."""
    pairs = ((key, tuple(tensor.shape), tuple(original[key].shape)) for key, tensor in parts.items() if key in original)
    problems = [f"{key}: {found}, by config.json {expected}" for key, found, expected in pairs if found != expected]
    if problems:
        headline = "The tensors are of another model than config.json describes."
        raise KeyMapError(headline, problems, "Give the config.json that was saved with them.")


def _check_activation(config: "PretrainedConfig", own: object) -> None:
    """Refuse a model with another activation than its original has; a gated feed-forward does not read the field."""
    found, is_gated = getattr(config, "hidden_act", own), getattr(config, "use_swiglu_ffn", False)
    if own is not None and not is_gated and found not in (own, *SAME_ACTIVATIONS.get(own, ())):
        headline = f"its config.json says hidden_act {found!r}; such an original has {own!r}."
        raise CheckpointError(headline, hint="There is no original that computes what this model does.")


def describe_gone(family: Family[Any], original: Iterable[str], restored: Container[str]) -> str:
    """What of the original's keys is in no converted model of this kind, and was not kept beside it; empty if nothing.

    Args:
        original: keys of the original state dict.
        restored: those that there are.
    """
    by_reason: dict[str, list[str]] = {}
    for key in original:
        if key not in restored:
            by_reason.setdefault(family.explain_absence(key) or "nothing says why", []).append(key)
    said = [f"{', '.join(keys)} ({reason})" for reason, keys in by_reason.items()]
    return f"not in the converted model, and gone: {'; '.join(said)}" if said else ""


def describe_lost(family: Family[Any], keys: Iterable[str]) -> str:
    """What of the original was not kept beside the model, and has something in its place; empty if nothing.

    Args:
        keys: of the original.
    """
    by_reason: dict[str, dict[str, None]] = {}
    for key in keys:
        by_reason.setdefault(family.explain_absence(key) or "", {})[BLOCK.sub(".*.", key)] = None
    said = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f"not kept beside the model, so that the original gets what computes the same: {said}" if said else ""


def list_parts(
    state_dict: StateDict, config: "PretrainedConfig", left_out: StateDict
) -> Iterator[tuple[str, list[Tensor]]]:
    """What of the original state dict is in the converted one: key to the parts of each tensor.

    Args:
        left_out: tensors kept beside it, from which parts that it has no place for are taken.

    Raises:
        CheckpointError, KeyMapError: as :func:`restore`.
    """
    family = find_family(config)
    spec = family.read_config(config)
    majors = find_majors(family, spec, state_dict)
    major = majors[-1] if majors else None
    own = take_out_filled(family, spec, state_dict, major)
    return key_map.list_parts(own, family.expand_key_map(spec, major), left_out)


def find_family(config: "PretrainedConfig") -> Family[Any]:
    """The family that produces models of this config.

    Raises:
        CheckpointError: none does.
    """
    family = next((family for family in families() if config.model_type in family.model_types), None)
    if family is None:
        known = ", ".join(model_type for family in families() for model_type in family.model_types)
        raise CheckpointError(f"A model of type {config.model_type!r} is of no known family.", hint=f"Known: {known}.")
    return family


def find_majors(family: Family[Any], spec: Spec, keys: Iterable[str]) -> list[int]:
    """The major versions of transformers whose on-disk layout has exactly these keys."""
    keys = set(keys)
    return [major for major in TRANSFORMERS_MAJORS if keys == list_layout(family, spec, major)]
