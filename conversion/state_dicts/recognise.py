"""Which model an original state dict is: family and spec from its keys and shapes, and an official variant's name."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from conversion.errors import CheckpointError, VariantError
from conversion.families.base import Family, Spec, families, list_overrides
from conversion.families.variants import VARIANTS, Variant
from conversion.mapping import key_map
from conversion.mapping.key_map import StateDict, shapes_of


def recognise(state_dict: StateDict, **overrides: Any) -> tuple[Family[Any], Spec]:
    """Family and spec of an original state dict, from its keys and shapes, and from what these cannot tell.

    Raises:
        CheckpointError: no family knows the keys, or they do not add up to a model.
        VariantError: the family knows nothing of one of the overrides.
    """
    _refuse_prefix(state_dict)
    family = recognise_family(shapes_of(state_dict))
    kept, _ = key_map.drop(state_dict, family.dropped)
    return family, family.recognise_spec(shapes_of(kept), **select_overrides(family, overrides))


def recognise_family(shapes: key_map.Shapes) -> Family[Any]:
    """The family whose keys these are.

    Raises:
        CheckpointError: none; the keys found are named.
    """
    found = [family for family in families() if family.matches(shapes)]
    if not found and any(key.endswith("embeddings.cls_token") for key in shapes):
        hint = "Give its whole folder, with its config.json: it is verified, and conversion.restore takes it back."
        raise CheckpointError("in the layout of transformers already.", list(shapes), hint)
    if len(found) != 1:
        names = ", ".join(family.name for family in found or families())
        raise CheckpointError(
            f"{len(shapes)} keys that belong to {'several families' if found else 'no known family'} ({names}).",
            [f"{key} {shape}" for key, shape in shapes.items()],
            hint="Give the original's own state dict, or name the variant.",
        )
    return found[0]


def _refuse_prefix(state_dict: StateDict) -> None:
    """Refuse keys that all begin with the same modules: no original's do."""
    modules = [key.split(".")[:-1] for key in state_dict] or [[]]
    # what the first and the last in order have in common, all have
    common = takewhile(lambda pair: pair[0] == pair[1], zip(min(modules), max(modules), strict=False))
    prefix = ".".join(first for first, _ in common)
    if prefix and len(state_dict) > 1:
        hint = f"If these are the whole model, take it from there: entry={prefix!r} (--entry {prefix})."
        raise CheckpointError(f"every key begins with {prefix + '.'!r}.", list(state_dict), hint)


def identify_variant(family: Family[Any], spec: Spec) -> str:
    """Name of the official variant with this spec, or ``<family>_custom``."""
    return next((row.name for row in rows_of(family) if family.spec_of(row) == spec), f"{family.name}_custom")


def rows_of(family: Family[Any]) -> list[Variant]:
    """The official variants of a family."""
    return [row for row in VARIANTS.values() if row.family == family.name]


def select_overrides(family: Family[Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given, provided that the family takes them."""
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = given.keys() - family.overrides.keys()
    if unknown - list_overrides().keys():
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(unknown))}")
    if unknown:
        takes = ", ".join(family.overrides)
        raise VariantError(f"{', '.join(sorted(unknown))}: not of a {family.name} model.", hint=f"It takes {takes}.")
    parsed, problems = {}, []
    for name, value in given.items():
        try:
            parsed[name] = family.overrides[name].parse(value)
        except (ValueError, TypeError) as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise VariantError("Not what can be said about a model.", problems)
    return parsed
