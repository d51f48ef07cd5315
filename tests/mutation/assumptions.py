"""What original and converted model both assume: a setting that no tensor tells, wrong on both sides alike.

No comparison of the two can notice it, so it must not come about: each such setting is taken away from what was told,
and the conversion has to be refused, or to claim nothing that depends on it.
"""

import warnings
from collections.abc import Iterator

import conversion
from conversion.errors import CheckpointError, ConversionError, VariantError
from conversion.families.base import tell_settings
from conversion.families.settings import AUTHORS, GATING, TIMM
from conversion.families.told import Told, ToldStateDict
from tests.mutation.injection import Outcome
from tests.support.golden import GoldenModel, read_golden

KIND = "both sides assume: {}"


def judge_assumptions(name: str) -> list[Outcome]:
    """Every setting that the shapes of a recorded model leave open: told by nobody, and told by two differently."""
    golden = read_golden(name)
    shapes = golden.family.converted_shapes(golden.spec)
    return [outcome for setting in golden.family.list_open(shapes) for outcome in _judge_setting(golden, name, setting)]


def _judge_setting(golden: GoldenModel, name: str, setting: str) -> Iterator[Outcome]:
    described = golden.family.settings[setting]
    told = tell_settings(golden.family, golden.spec)
    is_gated = golden.family.list_open(golden.family.converted_shapes(golden.spec)).get("hidden_act") == GATING
    gating = {"hidden_act": GATING} if is_gated else {}  # timm's code does not tell it
    if described.field and setting in told:
        # of whose code it is no constant, nobody is left to tell it
        for writer in (AUTHORS, TIMM):
            if writer not in described.fixed_by:
                others = {other: value for other, value in told.items() if other != setting}
                noticed = _is_refused_or_not_claimed(golden, writer, setting, {**gating, **others})
                yield _judged(KIND.format("told by nobody"), f"{name}: {setting}, of {writer}", noticed)
        said = ToldStateDict(golden.state_dict, {setting: Told(_another(told[setting]), "config.json")})
        yield _judged(KIND.format("two tell it differently"), f"{name}: {setting}", _is_refused(said, told))
    elif not described.field:
        if setting in gating:
            noticed = _is_refused(ToldStateDict(golden.state_dict, writer=TIMM), told)
            yield _judged(KIND.format("told by nobody"), f"{name}: {setting}, of {TIMM}", noticed)
        said = ToldStateDict(golden.state_dict, {setting: Told("another", "config.json")})
        yield _judged(KIND.format("not supported"), f"{name}: {setting}", _is_refused(said, told))


def _judged(kind: str, where: str, noticed: bool) -> Outcome:
    return Outcome(kind, where, frozenset({"identity"} if noticed else ()))


def _is_refused_or_not_claimed(golden: GoldenModel, writer: str, setting: str, told: dict[str, object]) -> bool:
    tensors = ToldStateDict(golden.state_dict, writer=writer)
    if golden.family.settings[setting].is_needed:
        return _is_refused(tensors, told)
    out = _convert(tensors, told)
    return not out.spec.any_size and out.input_size == out.spec.image_size and any("nothing is" in n for n in out.notes)


def _is_refused(tensors: ToldStateDict, told: dict[str, object]) -> bool:
    try:
        _convert(tensors, told)
    except (CheckpointError, VariantError) as error:
        return isinstance(error, ConversionError)
    return False


def _convert(tensors: ToldStateDict, told: dict[str, object]) -> conversion.Conversion:
    with warnings.catch_warnings(action="ignore"):
        return conversion.convert(tensors, **told)


def _another(value: object) -> object:
    """A value of the same kind that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 if value else 0.1
    if isinstance(value, tuple):
        return tuple(each / 2 if isinstance(each, float) else each + 1 for each in value)
    return {"bicubic": "bilinear", "bilinear": "bicubic"}[str(value)]
