"""Which model an original state dict is: family and spec from its keys and shapes, and an official variant's name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from conversion.errors import CheckpointError, VariantError
from conversion.families.base import Family, Spec, families
from conversion.families.linear_head import refuse_head
from conversion.families.settings import AUTHORS, FAMILY, list_settings, list_unused, option_of
from conversion.families.told import CALLER, Told, refuse_others, write_value
from conversion.families.variants import VARIANTS, Variant
from conversion.mapping import key_map
from conversion.mapping.key_map import StateDict, shapes_of
from conversion.state_dicts.depth_head import refuse_depth_head
from conversion.state_dicts.open_settings import complete_settings
from conversion.state_dicts.other_kinds import list_converted, refuse_other_kinds


@dataclass(frozen=True)
class Recognised:
    """Which model an original state dict is.

    Attributes:
        told: every setting that its shapes leave open and that somebody told, with its value.
        lookalikes: other kinds of models with the same shapes, by name.
    """

    family: Family[Any]
    spec: Spec
    told: Mapping[str, Told]
    lookalikes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the official variant that this is, or of the kinds of models that it may be."""
        if self.lookalikes:
            return "_or_".join((self.family.name, *self.lookalikes))
        return identify_variant(self.family, self.spec)


def recognise(state_dict: StateDict, **settings: Any) -> Recognised:
    """Recognise an original state dict from its keys and shapes, and from what somebody told of the rest.

    Args:
        state_dict: a :class:`ToldStateDict` brings along what the files beside it tell.
        settings: what its user tells.

    Raises:
        CheckpointError: no family knows the keys, they do not add up to a model, or nobody told what they leave open.
        VariantError: the family knows nothing of one of the settings, or two tell it differently.
    """
    return complete_spec(state_dict, *recognise_shapes(state_dict, settings.get(FAMILY)), settings)


def complete_spec(
    state_dict: StateDict, family: Family[Any], open_spec: Spec, settings: Mapping[str, Any]
) -> Recognised:
    """What :func:`recognise_shapes` gives, completed by what somebody told.

    Raises:
        CheckpointError, VariantError: as :func:`recognise`.
    """
    kept, dropped = key_map.drop(state_dict, family.dropped)
    shapes = shapes_of(kept)
    told = merge_told(family, *_leave_out_unused(family, open_spec, getattr(state_dict, "told", {}), settings))
    lookalikes = family.find_lookalikes(open_spec, shapes_of({key: state_dict[key] for key in dropped}))
    official = () if lookalikes else list_of_shapes(family, open_spec)
    kinds = " or ".join((family.name, *lookalikes))
    writer = getattr(state_dict, "writer", AUTHORS)
    complete = complete_settings(family, kinds, family.list_open(shapes), told, official, writer)
    spec = family.read_values(kept, family.recognise_spec(shapes, **_by_spec(family, complete)))
    return Recognised(family, spec, complete, lookalikes)


def _leave_out_unused(
    family: Family[Any], spec: Spec, by_files: Mapping[str, Told], by_caller: Mapping[str, Any]
) -> tuple[dict[str, Told], dict[str, Any]]:
    """What files and the caller tell, without what such a model has no use for; files tell of it by default.

    Raises:
        VariantError: the caller tells of it.
    """
    unused = list_unused(spec.num_channels)
    idle = [name for name, value in by_caller.items() if name in unused and value is not None]
    if idle:
        headline = f"{', '.join(idle)}: this {family.name} model gets no image processor, its images are not RGB."
        raise VariantError(headline, hint="Leave these out; prepare its images as in training.")
    return {name: each for name, each in by_files.items() if name not in unused}, dict(by_caller)


def recognise_shapes(state_dict: StateDict, told: str | None = None) -> tuple[Family[Any], Spec]:
    """Family and spec of an original state dict by its keys and shapes alone; what these leave open says nothing.

    Args:
        told: name of the family, where the caller tells it; else what a file beside the state dict tells.

    Raises:
        CheckpointError: no family knows the keys, or they do not add up to a model.
    """
    by_file = getattr(state_dict, "told", {}).get(FAMILY)
    refuse_head(shapes_of(state_dict))
    refuse_depth_head(shapes_of(state_dict))
    refuse_other_kinds(shapes_of(state_dict))
    _refuse_prefix(state_dict)
    family = recognise_family(shapes_of(state_dict), told or (by_file.value if by_file else None))
    kept, _ = key_map.drop(state_dict, family.dropped)
    return family, family.read_values(kept, family.recognise_spec_open(shapes_of(kept)))


def merge_told(family: Family[Any], by_files: Mapping[str, Told], by_caller: Mapping[str, Any]) -> dict[str, Told]:
    """What files and the caller tell of a model of this family.

    Raises:
        VariantError: a value is none of the setting's, the family knows nothing of one, two tell it differently, or it
            is told how outputs of blocks are returned, and not of which blocks.
        CheckpointError: a file tells another value than the family's code has.
    """
    refuse_others(by_files, family.constants)
    known = {name: each.value for name, each in by_files.items() if name in family.settings}
    told = {name: replace(by_files[name], value=value) for name, value in select_settings(family, known).items()}
    problems = []
    for name, value in select_settings(family, by_caller).items():
        if name in told and told[name].value != value:
            problems.append(f"{name}: {told[name].by} says {write_value(told[name].value)}, not {write_value(value)}")
        told.setdefault(name, Told(value, CALLER))
    if problems:
        hint = "Leave the wrong option out. If the file, beside this one or above it, is another checkpoint's, move it."
        raise VariantError("A setting is told twice, with different values.", problems, hint)
    idle = [option_of(name) for name in told if name in family.returned]
    if idle and "out_indices" not in told:
        headline = f"{', '.join(idle)}: of a feature backbone."
        raise VariantError(headline, hint="Give --as backbone, too; or leave this out.")
    return told


def find_official(family: Family[Any], spec: Spec) -> Variant | None:
    """The official variant of exactly these shapes, unless there are several; what they leave open is not compared."""
    found = list_of_shapes(family, spec)
    return found[0] if len(found) == 1 else None


def list_of_shapes(family: Family[Any], spec: Spec) -> list[Variant]:
    """List the official variants of exactly these shapes; what they leave open is not compared."""
    fields = {setting.field for setting in family.settings.values()}
    return [
        row
        for row in rows_of(family)
        if all(value == vars(spec)[field] for field, value in vars(family.spec_of(row)).items() if field not in fields)
    ]


def _by_spec(family: Family[Any], told: Mapping[str, Told]) -> dict[str, object]:
    """The settings that determine the spec, by name."""
    return {name: each.value for name, each in told.items() if family.settings[name].field}


def recognise_family(shapes: key_map.Shapes, told: str | None = None) -> Family[Any]:
    """The family whose keys these are.

    Args:
        told: name of the one that it is, where several may be.

    Raises:
        CheckpointError: none; the keys found are named.
    """
    found = [family for family in families() if family.matches(shapes)]
    names = {family.name for family in found}
    found = [family for family in found if (family.name == told if told in names else family.yields_to not in names)]
    if told is not None and found and told not in names:
        headline = f"{FAMILY} was given as {told}; these are the keys of a {found[0].name} model."
        raise CheckpointError(headline, hint=f"Leave {option_of(FAMILY)} out, or correct the file that says so.")
    if not found and any(key.endswith("embeddings.cls_token") for key in shapes):
        hint = "Read its folder, with its config.json in it, by conversion.load_checkpoint: that restores the original."
        raise CheckpointError("in the layout of transformers already.", list(shapes), hint)
    if len(found) != 1:
        whose = f"several families ({', '.join(each.name for each in found)})" if found else "no known family"
        hint = "Give the file of one model." if found else f"{list_converted()} Give the original's own state dict."
        problems = [f"{key} {shape}" for key, shape in shapes.items()]
        raise CheckpointError(f"{len(shapes)} keys that belong to {whose}.", problems, hint)
    return found[0]


def _refuse_prefix(state_dict: StateDict) -> None:
    """Refuse keys that all begin with the same modules: no original's do."""
    modules = [key.split(".")[:-1] for key in state_dict] or [[]]
    # what the first and the last in order have in common, all have
    common = takewhile(lambda pair: pair[0] == pair[1], zip(min(modules), max(modules), strict=False))
    prefix = ".".join(first for first, _ in common)
    if prefix and len(state_dict) > 1:
        hint = f"No whole model of a known family lies under it. {list_converted()}"
        headline = f"every key begins with {prefix + '.'!r}, which no known model's keys do."
        raise CheckpointError(headline, list(state_dict), hint)


def identify_variant(family: Family[Any], spec: Spec) -> str:
    """Name of the official variant with this spec, or ``<family>_custom`` where there is none, or several are alike."""
    found = list_official(family, spec)
    return found[0] if len(found) == 1 else f"{family.name}_custom"


def list_official(family: Family[Any], spec: Spec) -> list[str]:
    """Names of the official variants with this spec, whatever transformers' model returns."""
    returned = {name: getattr(spec, name) for name in family.returned}
    return [row.name for row in rows_of(family) if replace(family.spec_of(row), **returned) == spec]


def rows_of(family: Family[Any]) -> list[Variant]:
    """The official variants of a family."""
    return [row for row in VARIANTS.values() if row.family == family.name]


def select_settings(family: Family[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given, parsed, provided that the family takes them.

    Raises:
        VariantError: it does not take one, or not this value.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    unknown = given.keys() - family.settings.keys()
    if "reshape_hidden_states" in unknown:
        raise VariantError(f"{family.name}: only a DINOv2 can be made a backbone.", hint="Leave --as backbone out.")
    if unknown - list_settings().keys():
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(unknown))}")
    if unknown:
        names = sorted(unknown)
        hint = f"Leave out {', '.join(map(option_of, names))}."
        raise VariantError(f"A {family.name} model has no {', '.join(names)}.", hint=hint)
    parsed, problems = {}, []
    for name, value in given.items():
        try:
            parsed[name] = family.settings[name].parse(value)
        except (ValueError, TypeError) as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise VariantError(f"A {family.name} model cannot have these values.", problems, "Correct them.")
    return parsed
