"""A linear head and its backbone, brought together into the one state dict that is converted."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from conversion.errors import CheckpointError, KeyMapError, VariantError, concerning
from conversion.families.base import families
from conversion.families.heads import LINEAR_HEAD
from conversion.families.linear_head import (
    HEAD_PREFIX,
    WEIGHT,
    LinearHead,
    choose_head,
    find_misfit,
    is_of_one_vector,
    widen_head,
)
from conversion.families.settings import option_of
from conversion.families.told import ToldStateDict
from conversion.mapping.key_map import StateDict, shapes_of
from conversion.state_dicts.recognise import merge_told


def fit_linear_head(state_dict: StateDict, linear_head: StateDict, entry: str | None = None) -> StateDict:
    """The head of a linear head's file that goes with a backbone; what is one already, as it is.

    Raises:
        CheckpointError: it holds several, not the one that was chosen, or none that fits.
    """
    width = _find_width(state_dict)
    return linear_head if width is None else choose_head(linear_head, width, entry)


def merge_linear_head(
    state_dict: StateDict, linear_head: StateDict | None, entry: str | None = None
) -> dict[str, Tensor]:
    """One state dict of backbone and linear head, the head's keys under their prefix.

    Args:
        entry: of a file of several heads, the name of the one to take.

    Raises:
        CheckpointError: the file's heads are several, or do not fit.
        KeyMapError: a tensor of the head is in the backbone's file as well.
    """
    with concerning("the linear head's file"):
        head = fit_linear_head(state_dict, linear_head, entry) if linear_head else {}
    prefixed = {HEAD_PREFIX + key.removeprefix(HEAD_PREFIX): tensor for key, tensor in head.items()}
    twice = [name for name in prefixed if name in state_dict]
    if twice:
        raise KeyMapError("The checkpoint has a linear head of its own.", twice, "Leave --linear-head out.")
    merged = {**state_dict, **prefixed}
    own = state_dict if isinstance(state_dict, ToldStateDict) else ToldStateDict({})
    told = {**own.told, **(head.told if isinstance(head, ToldStateDict) else {})}
    if isinstance(state_dict, ToldStateDict) or told:
        return ToldStateDict(merged, told, own.writer, own.labels)
    return merged


def complete_linear_head(
    state_dict: StateDict, settings: Mapping[str, Any], variant: str | None
) -> tuple[StateDict, tuple[str, ...]]:
    """A state dict whose linear head takes what transformers' does, and what was filled in for that.

    Where nobody told what a head on one vector pools, that is refused later, together with all else that is missing.

    Args:
        variant: the official one that was named, of which nothing is asked later.

    Raises:
        CheckpointError: the head takes something else.
        VariantError: a variant was named, and nobody told.
    """
    shapes, width = shapes_of(state_dict), _find_width(state_dict)
    if width is not None and WEIGHT in shapes:
        misfit, hint = find_misfit(LinearHead("", {"weight": state_dict[WEIGHT]}), width)
        if misfit:
            raise CheckpointError(f"{WEIGHT} {misfit}.", hint=hint)
    family = next((family for family in families() if family.matches(shapes)), None)
    if family is None or not is_of_one_vector(shapes) or "global_pool" not in family.settings:
        return state_dict, ()
    told = merge_told(family, getattr(state_dict, "told", {}), settings).get("global_pool")
    if told is None and variant is not None:
        headline = f"The linear head of {variant} takes CLS token and mean of patches; this one takes one of both."
        option = option_of("global_pool")
        raise VariantError(headline, hint=f"Name no variant, and say which it takes: {option} token, or {option} avg.")
    widened, note = widen_head(state_dict, str(told.value) if told else "token")
    if isinstance(state_dict, ToldStateDict):
        widened = ToldStateDict(widened, state_dict.told, state_dict.writer, state_dict.labels)
    return widened, (note,)


def _find_width(state_dict: StateDict) -> int | None:
    """Width of the tokens of a backbone that has linear heads in files of their own; None of any other."""
    shapes = shapes_of(state_dict)
    for family in families():
        if family.matches(shapes) and family.head is LINEAR_HEAD:
            token = shapes.get("cls_token", ())
            return token[2] if len(token) == 3 else None
    return None
