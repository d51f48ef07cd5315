"""What a checkpoint's tensors cannot tell: the settings, who may tell each, and who did."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

AUTHORS, TIMM = "the authors' code", "timm's code"
"""Who wrote a state dict, by the names of its keys."""


@dataclass(frozen=True)
class Setting:
    """Something that tensors cannot tell.

    Attributes:
        field: of the spec that it determines; empty where only the usual value is supported.
        parse: from a value or the text of a command line; raises ValueError or TypeError.
        help: what it is, for the help of its option.
        neutral: what stands in for it while nobody has told it.
        fixed_by: whose code has no other value than the usual one: writers of state dicts.
        is_needed: nothing is converted before somebody tells it. Else what depends on it is not claimed.
        is_option: whether it may be given on the command line.
    """

    field: str
    parse: Callable[[Any], object]
    help: str
    neutral: object = None
    fixed_by: frozenset[str] = frozenset()
    is_needed: bool = True
    is_option: bool = True


@dataclass(frozen=True)
class Told:
    """The value of a setting, and on whose word it is taken.

    Attributes:
        is_given: for this very model, by its user or by a file beside it; else it is what all such models have.
    """

    value: object
    by: str
    is_given: bool = True


CALLER = "the caller"
"""Who gives a setting as an option, or as an argument of ``convert``."""


class ToldStateDict(dict[str, Tensor]):
    """An original state dict that keeps what the files beside it tell, which its tensors cannot.

    Attributes:
        told: setting to what a file says of it.
        writer: whose code wrote the checkpoint, :data:`AUTHORS` or :data:`TIMM`.
        labels: class names that a file tells, in the order of the logits.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        told: Mapping[str, Told] | None = None,
        writer: str = AUTHORS,
        labels: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(tensors)
        self.told: Mapping[str, Told] = dict(told or {})
        self.writer, self.labels = writer, labels


def option_of(name: str) -> str:
    """The option of the command line that gives a setting."""
    return f"--{name.replace('_', '-')}"


def describe_told(told: Mapping[str, Told], caller: str = "whoever converted it") -> list[str]:
    """Who told what, a line for each who told something; the caller under a name that the reader knows him by."""
    by: dict[str, list[str]] = {}
    for name, each in told.items():
        by.setdefault(caller if each.by == CALLER else each.by, []).append(f"{name} {write_value(each.value)}")
    return [f"{', '.join(settings)}: told by {who}" for who, settings in by.items()]


def write_value(value: object) -> str:
    """A value as its option takes it."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(write_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
