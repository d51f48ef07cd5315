"""One model among other modules: the prefix under which it lies in a state dict, whole."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from conversion.errors import CheckpointError, ConversionError
from conversion.families.base import Family, Spec, families
from conversion.families.shapes import has_depth_head
from conversion.intake.entries import TOO, describe_group, group_keys, list_families, rank_name
from conversion.intake.steps import unchunk_blocks
from conversion.mapping.key_map import StateDict, drop, shapes_of
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.recognise import recognise_shapes

MAX_MODULES = 12
"""Modules in each other that a prefix may name."""

REGISTERS = ("register_tokens", "reg_token")
"""Tokens of a model that would be another one without them."""


@dataclass(frozen=True)
class Selected:
    """What was taken of a state dict.

    Attributes:
        did: what was taken and what was left out, in a line; empty where it was all of it.
        compared: the same model under other prefixes, with them: that it is the same, its values say.
        is_recognised: whether it is a model at all.
    """

    state_dict: dict[str, Tensor]
    did: str = ""
    compared: Mapping[str, Tensor] = field(default_factory=dict)
    is_recognised: bool = True


def select_model(state_dict: StateDict, path: Sequence[str] = ()) -> Selected:
    """Take the model that lies under a prefix, where there is none without one.

    Whole means: every key that its family needs is there. Of several, teacher and averaged ones come before plain ones.
    What lies under the prefix is the model's own, all of it. Where tensors have no values, those of one dtype and shape
    count as the same.

    Args:
        path: the entries of the file that lead to this state dict.

    Raises:
        CheckpointError: several models are whole, and nothing says which is meant; none is; or registers lie beside it.
    """
    try:
        _recognise(state_dict)
        return Selected(dict(state_dict))  # whatever is missing is said where it is converted
    except ConversionError as error:
        obstacle = error
    if has_depth_head(shapes_of(state_dict)):
        return Selected(dict(state_dict))  # likewise: its backbone by itself is another model, to be asked for
    found = _list_recognised(state_dict)
    whole = [prefix for prefix, missing in found.items() if not missing]
    if not whole:
        _refuse_incomplete(state_dict, found, obstacle)
        return Selected(dict(state_dict), is_recognised=False)
    models = {prefix: _take(state_dict, prefix) for prefix in whole}
    chosen, equal, others = _choose(models, path)
    outside = [key for key in state_dict if not key.startswith((chosen, *others))]
    _refuse_registers(models[chosen], chosen, outside, path)
    did = [f"{chosen!r} taken, under which a whole model lies"]
    did += [f"not {', nor '.join(f'{prefix!r}, {TOO}' for prefix in others)} (--entry to choose)"] if others else []
    groups = [describe_group(group, keys) for group, keys in group_keys(outside, chosen).items()]
    did += [f"left out, outside of it: {', '.join(groups)}"] if groups else []
    compared = {prefix + key: tensor for prefix in equal for key, tensor in models[prefix].items()}
    return Selected(models[chosen], "; ".join(did), compared)


def list_missing(state_dict: StateDict) -> list[str]:
    """What a model lacks of the keys that its family needs.

    Raises:
        ConversionError: it is not recognised at all.
    """
    family, spec, keys = _recognise(state_dict)
    expected, _ = drop(family.original_tensors(spec), family.dropped)
    return [f"{key} {tuple(tensor.shape)}" for key, tensor in expected.items() if key not in keys]


def _recognise(state_dict: StateDict) -> tuple[Family[Any], Spec, Collection[str]]:
    """Family and spec of what may be a model, as what follows in intake would have it, and its keys then."""
    tensors, _ = unchunk_blocks(state_dict)
    for each in families():
        tensors, _ = each.translate(tensors)
    family, spec = recognise_shapes(tensors)
    return family, spec, tensors.keys()


def _take(state_dict: StateDict, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state_dict.items() if key.startswith(prefix)}


def _list_recognised(state_dict: StateDict) -> dict[str, list[str]]:
    """The prefixes under which a model is recognised, and what each lacks."""
    under: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state_dict.items():
        parts = key.split(".")
        for count in range(1, min(len(parts), MAX_MODULES + 1)):
            prefix = ".".join(parts[:count]) + "."
            under.setdefault(prefix, {})[key.removeprefix(prefix)] = tensor
    found = {}
    for prefix, tensors in under.items():
        if list_families(tensors):
            with suppress(ConversionError):
                found[prefix] = list_missing(tensors)
    return found


def _choose(models: Mapping[str, StateDict], path: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The prefix that is taken; of the others, those of the same model; and all others."""
    ranked = sorted(models, key=rank_name)
    first = ranked[0]
    equal = [prefix for prefix in ranked[1:] if rank_name(prefix) == rank_name(first)]
    different = [prefix for prefix in equal if not _is_same(models[first], models[prefix])]
    if different:
        headline = "it holds several models, each under a prefix, and nothing says which is meant."
        raise CheckpointError(headline, [_option(prefix, path) for prefix in models], "Give one of these options.")
    return first, equal, ranked[1:]


def _is_same(left: StateDict, right: StateDict) -> bool:
    """Whether two modules hold the same tensors, as where one model was given two names."""
    return left.keys() == right.keys() and all(_is_equal(left[key], right[key]) for key in left)


def _is_equal(left: Tensor, right: Tensor) -> bool:
    if left.is_meta or right.is_meta:
        return left.dtype == right.dtype and left.shape == right.shape
    return is_bit_equal(left, right)


def _refuse_incomplete(state_dict: StateDict, found: Mapping[str, Sequence[str]], obstacle: ConversionError) -> None:
    """Say what is missing of the models that are not whole, where that is why nothing is recognised."""
    sought = [problem.partition(":")[0] for problem in obstacle.problems]
    for prefix, missing in found.items():
        if all(key.startswith(prefix) for key in state_dict) or any(prefix + key in state_dict for key in sought):
            headline = f"the model under {prefix!r} is not whole."
            problems = [f"missing: {prefix}{key}" for key in missing]
            raise CheckpointError(headline, problems, "Give a file that has these tensors, too.")


def _refuse_registers(model: StateDict, chosen: str, outside: Sequence[str], path: Sequence[str]) -> None:
    """Refuse to leave out registers that may be the model's: they lie in a module around it, which has none."""
    modules = chosen.split(".")[:-1]
    around = {".".join([*modules[:count], name]) for count in range(len(modules)) for name in REGISTERS}
    problems = [key for key in outside if key in around]
    if problems and not any(name in model for name in REGISTERS):
        headline = f"registers lie beside the model under {chosen!r}, and may be part of it."
        raise CheckpointError(headline, problems, f"If they are not, take it without them: {_option(chosen, path)}")


def _option(prefix: str, path: Sequence[str]) -> str:
    """The option that takes what lies under a prefix."""
    return f"--entry {'.'.join([*path, prefix.removesuffix('.')])}"
