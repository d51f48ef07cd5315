"""Which model an official variant's name says that a state dict is; refused where its tensors are another's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conversion.errors import CheckpointError, KeyMapError, VariantError
from conversion.families.base import Family, Spec, families, list_differences, load_family
from conversion.families.heads import SeparateHead
from conversion.families.settings import FAMILY
from conversion.families.told import Told, write_value
from conversion.families.variants import Variant
from conversion.mapping import key_map
from conversion.mapping.key_map import Shapes, StateDict, shapes_of
from conversion.state_dicts.other_kinds import refuse_other_kinds
from conversion.state_dicts.recognise import Recognised, find_official, merge_told, recognise_shapes, rows_of

NAME_NONE = "Name no variant to convert it as what it is."


def recognise_named(row: Variant, state_dict: StateDict, settings: Mapping[str, Any]) -> Recognised:
    """The variant that was named, provided that this is not another model altogether.

    What is wrong with the tensors of this very model is not said here: the check of all keys that follows lists it.

    Raises:
        VariantError: these are the weights of another model, or somebody told a setting otherwise.
        CheckpointError: no family knows such a model.
    """
    refuse_other_kinds(shapes_of(state_dict))
    family = load_family(row.family)
    told = merge_told(family, getattr(state_dict, "told", {}), settings)
    returned = {name: each for name, each in told.items() if name in family.returned}
    spec: Spec = replace(family.spec_of(row), **{name: each.value for name, each in returned.items()})
    fields = {name: setting.field for name, setting in family.settings.items() if setting.field}
    own = {name: getattr(spec, field) for name, field in fields.items()}
    _refuse_another_family(row, state_dict)
    whose = {FAMILY: family.name} if FAMILY in family.settings else {}
    _refuse_contradictions(row, own | whose, {name: each for name, each in told.items() if name not in returned})
    kept, _ = key_map.drop(state_dict, family.dropped)
    shapes = shapes_of(kept)
    if shapes != family.converted_shapes(spec):
        _refuse_another_model(row, family, spec, shapes, state_dict)
    elif (found := family.read_values(kept, spec)) != spec:
        raise _say_another(row, family, found, spec)
    by = f"{row.name}, which was named"
    known = {name: Told(value, by, is_given=False) for name, value in own.items() if value not in (None, ())}
    return Recognised(family, spec, known | returned, ())


def _refuse_contradictions(row: Variant, own: Mapping[str, object], told: Mapping[str, Told]) -> None:
    contradictions = [
        f"{name} {'as usual' if value is None else write_value(value)}, not {write_value(told[name].value)} "
        f"({told[name].by})"
        for name, value in own.items()
        if name in told and value != told[name].value
    ]
    if contradictions:
        raise VariantError(
            f"{row.name} has {', '.join(contradictions)}.", hint=f"{NAME_NONE} Or leave out what tells it otherwise."
        )


def _refuse_another_model(row: Variant, family: Family[Any], spec: Spec, shapes: Shapes, state_dict: StateDict) -> None:
    """Refuse a whole model of the same family, or what is of another family."""
    try:
        found = family.recognise_spec_open(shapes)
        is_complete = shapes == family.converted_shapes(found)
    except (CheckpointError, KeyMapError):
        is_complete = False
    if not is_complete:
        _refuse_another_family(row, state_dict)
        return
    others = rows_of(family)
    name = next((other.name for other in others if family.converted_shapes(family.spec_of(other)) == shapes), None)
    untold = {family.settings[name].field for name in family.list_open(shapes)}
    differing = ", ".join(text for field, text in list_differences(found, spec).items() if field not in untold)
    hint = NAME_NONE
    if family.head and family.head.role in row.files and not found.num_classes:
        hint = _ask_for_head(row, family.head)
    described = name or f"another {family.name} model ({differing})"
    raise VariantError(f"These are the weights of {described}; {row.name} was asked for.", hint=hint)


def _say_another(row: Variant, family: Family[Any], found: Spec, spec: Spec) -> VariantError:
    """The error of a model with the shapes of the variant, and other values."""
    differing = ", ".join(list_differences(found, spec).values())
    headline = f"These are the weights of another {family.name} model ({differing}); {row.name} was asked for."
    return VariantError(headline, hint=NAME_NONE)


def _ask_for_head(row: Variant, head: SeparateHead) -> str:
    return f"{row.name} needs its {head.described} file beside the backbone: {head.hint}."


def _refuse_another_family(row: Variant, state_dict: StateDict) -> None:
    shapes, family = shapes_of(state_dict), load_family(row.family)
    if family.matches(shapes):
        return
    other = next((family for family in families() if family.matches(shapes)), None)
    if other is None:
        return
    try:
        like = find_official(*recognise_shapes(state_dict))
    except (CheckpointError, KeyMapError):
        like = None
    described = like.name if like else f"a {other.name} model"
    lacks_head = family.head is not None and like is not None and like.files["checkpoint"] == row.files["checkpoint"]
    hint = _ask_for_head(row, family.head) if lacks_head and family.head else NAME_NONE
    raise VariantError(f"These are the weights of {described}; {row.name} was asked for.", hint=hint)
