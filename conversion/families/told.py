"""What a checkpoint's tensors cannot tell: the settings, who may tell each, and who did."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD
from conversion.families.settings import AUTHORS, LAST_BLOCK, NORMALISATION_SETTINGS


@dataclass(frozen=True)
class Told:
    """The value of a setting, and on whose word it is taken.

    Attributes:
        is_given: for this very model, by its user or by a file beside it; else it is what all such models have.
    """

    value: object
    by: str
    is_given: bool = True


def note_normalisation(told: Mapping[str, Told]) -> tuple[str, ...]:
    """Note that images are normalised as for the official models, where nobody told it of this one."""
    known = {name: told[name] for name in NORMALISATION_SETTINGS if name in told}
    if all(each.is_given for each in known.values()):
        return ()
    values = [each.value for each in known.values()]
    said = " and ".join(f"{name} {write_value(each.value)}" for name, each in known.items())
    used = "ImageNet's mean and std" if values == [IMAGENET_MEAN, IMAGENET_STD] else said
    return (
        f"the image processor normalises with {used}, as the official models do; "
        "give --image-mean and --image-std if this model was trained with others",
    )


@dataclass(frozen=True)
class Origin:
    """The files that a state dict was read from, and what it was when it had been read.

    Attributes:
        files: each with its size in bytes and the time of its last change, in nanoseconds.
        steps: of intake: name to what it did.
        tensors: key to the tensor and its version, which torch counts.
    """

    files: Mapping[Path, tuple[int, int]]
    steps: tuple[tuple[str, str], ...]
    tensors: Mapping[str, tuple[Tensor, int]]

    def is_of(self, state_dict: Mapping[str, Tensor]) -> bool:
        """Whether a state dict is what was read, and nobody has changed it in memory."""
        return self.tensors.keys() == state_dict.keys() and all(
            tensor is self.tensors[key][0] and read_version(tensor) == self.tensors[key][1]
            for key, tensor in state_dict.items()
        )


def read_version(tensor: Tensor) -> int:
    """How often a tensor was written to, as torch counts; it does not count where gradients are ruled out."""
    return -1 if tensor.is_inference() else tensor._version


CALLER = "the caller"
"""Who gives a setting as an option, or as an argument of ``convert``."""


class ToldStateDict(dict[str, Tensor]):
    """An original state dict that keeps what the files beside it tell, which its tensors cannot.

    Attributes:
        told: setting to what a file says of it.
        writer: whose code wrote the checkpoint, :data:`AUTHORS` or :data:`TIMM`.
        labels: class names that a file tells, in the order of the logits.
        origin: the files that it was read from; None where it was made in memory.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        told: Mapping[str, Told] | None = None,
        writer: str = AUTHORS,
        labels: tuple[str, ...] | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(tensors)
        self.told: Mapping[str, Told] = dict(told or {})
        self.writer, self.labels, self.origin = writer, labels, origin


def refuse_others(told: Mapping[str, Told], constants: Mapping[str, object]) -> None:
    """Refuse a setting that a file tells, if the original's code has one fixed value for it, and another one.

    Raises:
        CheckpointError: naming the settings, and the files.
    """
    problems = [
        f"{name}: {told[name].by} says {write_value(told[name].value)}; this model's code has {write_value(value)}"
        for name, value in constants.items()
        if name in told and told[name].value != value
    ]
    if problems:
        hint = "If the file is another checkpoint's, move it away; else use this model with the code that trained it."
        raise CheckpointError("These settings are not supported.", problems, hint)


def find_origins(**given: Mapping[str, Tensor] | None) -> dict[str, Origin]:
    """Role to where a state dict of this role was read; none at all where one was made, or changed, in memory."""
    there = {role: state_dict for role, state_dict in given.items() if state_dict is not None}
    origins = {role: getattr(state_dict, "origin", None) for role, state_dict in there.items()}
    known = {role: origin for role, origin in origins.items() if origin is not None and origin.is_of(there[role])}
    return known if known.keys() == there.keys() else {}


def describe_told(told: Mapping[str, Told], caller: str = "whoever converted it") -> list[str]:
    """Who told what, a line for each who told something; the caller under a name that the reader knows him by."""
    by: dict[str, list[str]] = {}
    for name, each in told.items():
        by.setdefault(caller if each.by == CALLER else each.by, []).append(f"{name} {write_value(each.value)}")
    return [f"{', '.join(settings)}: told by {who}" for who, settings in by.items()]


def describe_condition(told: Mapping[str, Told], caller: str = "whoever converted it") -> str:
    """What a verdict rests on that the caller alone has said; empty where that is nothing."""
    given = [f"{name} {write_value(each.value)}" for name, each in told.items() if each.by == CALLER]
    if not given:
        return ""
    are, them = ("is", "it") if len(given) == 1 else ("are", "them")
    return f"This holds if {', '.join(given)} {are} right: {caller} said so, and no tensor shows {them}."


def write_value(value: object) -> str:
    """A value as its option takes it: every digit that counts, the last block by its word."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        values = tuple(value)
        return "last" if values == (LAST_BLOCK,) else ",".join(map(write_value, values))
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
