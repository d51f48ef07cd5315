"""The settings that shapes leave open: who tells each, and what is said where nobody does."""

from collections.abc import Mapping, Sequence
from typing import Any

from conversion.errors import CheckpointError
from conversion.families.base import Family
from conversion.families.settings import AUTHORS, FAMILY, GATING, option_of
from conversion.families.told import CALLER, Told, write_value
from conversion.families.variants import Variant

WAYS = (
    "Give these options (in Python, arguments of the same names), or put the config.json or config.yaml that "
    "came with the weights beside them. If it is an official model, name it: --variant NAME; with pytest, -k NAME "
    "(vision-parity variants lists them)."
)
"""Who may tell what tensors do not."""


def complete_settings(
    family: Family[Any],
    kinds: str,
    usual: Mapping[str, object],
    told: Mapping[str, Told],
    official: Sequence[Variant],
    writer: str,
) -> dict[str, Told]:
    """Every setting that somebody tells: its user or a file, official models of these shapes, the writer's code.

    Args:
        kinds: what the model is or may be, for messages.
        usual: the settings that shapes leave open, each with the value that most such models have, or None.

    Raises:
        CheckpointError: a setting has another value than the supported one, or nobody tells one that is needed.
    """
    _refuse_unsupported(family, usual, told)
    untold = {name: value for name, value in usual.items() if name not in told}
    known = _list_fixed(family, untold, writer) | _list_common(family, untold, official, writer)
    complete = {**told, **{name: known[name] for name in untold if name in known}}
    missing = [
        _ask_for(name, value)
        for name, value in untold.items()
        if name not in known and (name == FAMILY or family.settings[name].is_needed)
    ]
    if missing:
        headline = f"The tensors of this {kinds} model do not tell these settings, and no file does."
        names = ", ".join(row.name for row in official)
        raise CheckpointError(headline, missing, f"{WAYS} Official models of these shapes: {names}." if names else WAYS)
    return complete


def _list_common(
    family: Family[Any], usual: Mapping[str, object], official: Sequence[Variant], writer: str
) -> dict[str, Told]:
    """List the settings that are the same in all official models of these shapes."""
    specs = [family.spec_of(row) for row in official]
    theirs = family.list_open(family.converted_shapes(specs[0])) if specs else {}
    by = f"{', '.join(row.name for row in official)}, the official model{'s' * (len(official) > 1)} of these shapes"
    common = dict[str, Told]()
    for name, value in usual.items():
        setting, values = family.settings[name], set[object]()
        if name in theirs and not setting.field:
            values = {value, theirs[name]}
        # how positions are resampled is a matter of code, and timm's is another than the authors'
        elif name in theirs and (writer == AUTHORS or setting.is_needed):
            values = {getattr(spec, setting.field) for spec in specs}
        if len(values) == 1:
            common[name] = Told(values.pop(), by, is_given=False)
    return common


def _list_fixed(family: Family[Any], usual: Mapping[str, object], writer: str) -> dict[str, Told]:
    """List the settings that the code which wrote the weights fixes, or has by default."""
    by = f"{writer}, which has no other" if writer == AUTHORS else f"{writer}, by default"
    return {
        name: Told(value, by, is_given=False)
        for name, value in usual.items()
        if writer in family.settings[name].fixed_by and (writer == AUTHORS or value != GATING)
    }


def _ask_for(name: str, usual: object) -> str:
    """The line that asks for a setting that nobody told."""
    if name == FAMILY:
        return f"{name}: give {option_of(name)} if it is such a model; other kinds have the same keys"
    most = f"; most such models have {write_value(usual)}" if usual is not None else ""
    return f"{name}: give {option_of(name)} as it was in training{most}"


def _refuse_unsupported(family: Family[Any], usual: Mapping[str, object], told: Mapping[str, Told]) -> None:
    """Refuse settings of which one value alone is supported, where somebody told another."""
    unsupported = {
        name: f"{name}: {told[name].by} says {told[name].value!r}; only {value!r} is supported"
        for name, value in usual.items()
        if name in told and not family.settings[name].field and value is not None and told[name].value != value
    }
    if unsupported:
        hint = _suggest_supported([name for name in unsupported if told[name].by == CALLER])
        raise CheckpointError("These settings are not supported.", list(unsupported.values()), hint)


def _suggest_supported(given: Sequence[str]) -> str:
    if given:
        return f"Leave {', '.join(map(option_of, given))} out, or use this model in the library that wrote it."
    return "Use this model in the library that wrote it."
