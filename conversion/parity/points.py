"""Where two models must carry the same values: capture points, gathered in stages; and the inputs they are given."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

Side = Literal["original", "hf"]

PLACE = re.compile(r"(?P<module>[^:]*):(?P<item>\w+)(\((?P<index>\d+)\))?(\[(?P<part>\d)/(?P<parts>\d)\])?")


@dataclass(frozen=True)
class CapturePoint:
    """A place where original and converted model must carry the same values.

    Both places are written ``module.path:input`` (its first argument), ``module.path:output``, ``module.path:name``
    for a tensor that the module keeps by that name, or ``:name`` for the entry called ``name`` of what the model
    returns, ``:name(2)`` for the third of several. ``[0/3]`` after it takes the first of three equal parts, along the
    last dimension.

    Attributes:
        name: ``embeddings``, ``block.7.q``, ``block.7``, ``norm``, ``logits``.
        original, hf: the place in either model.
        sources: shell-style patterns of the original's keys whose tensors enter here for the first time.
    """

    name: str
    original: str
    hf: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A part of the computation, compared at once: the embeddings, a block, a head.

    Attributes:
        points: its capture points, in the order of the computation.
        original, hf: path of the module that computes it and nothing else, which can be run by itself on the
            original's input; empty where there is none.
    """

    name: str
    points: tuple[CapturePoint, ...]
    original: str = ""
    hf: str = ""


@dataclass(frozen=True)
class Inputs:
    """What both models are given: ``(B, channels, height, width)``, and ``(B, N)`` where patches are masked."""

    pixel_values: Tensor
    bool_masked_pos: Tensor | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Inputs":
        masks = None if self.bool_masked_pos is None else self.bool_masked_pos.to(device)
        return Inputs(self.pixel_values.to(device, dtype), masks)

    @property
    def arguments(self) -> dict[str, Tensor]:
        """Those that a model is to be called with."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Place:
    """The place of a capture point in one model; see :class:`CapturePoint`."""

    module: str
    item: str
    index: int | None
    part: int
    parts: int

    def take(self, returned: Any) -> Tensor:
        """The tensor in what a model returns."""
        value = returned[self.item]
        return self.cut(value if self.index is None else value[self.index])

    def cut(self, value: Tensor) -> Tensor:
        return value.chunk(self.parts, dim=-1)[self.part] if self.parts > 1 else value


@cache
def read_place(text: str) -> Place:
    """Read what a capture point says of its place in one model."""
    found = PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a place in a model, as module.path:output or module.path:output[0/3]")
    index = int(found["index"]) if found["index"] else None
    return Place(found["module"], found["item"], index, int(found["part"] or 0), int(found["parts"] or 1))


def merge_stages(*lists: Sequence[Stage]) -> list[Stage]:
    """The stages of models that begin alike, each name once: what they have in common, then what each has alone."""
    merged: dict[str, Stage] = {}
    for stage in chain.from_iterable(lists):
        merged.setdefault(stage.name, stage)
    return list(merged.values())


def build_place(name: str, original: str, hf: str, sources: tuple[str, ...] = ()) -> Stage:
    """A stage of a single capture point, with no module that could be run by itself."""
    return Stage(name, (CapturePoint(name, original, hf, sources),))


def build_unused(places: Mapping[str, str]) -> Stage:
    """A stage of tensors that no output depends on, compared as they are: their places in the original, and in hf."""
    points = (
        CapturePoint(f"unused.{hf.replace(':', '.')}", original, hf, (original.replace(":", "."),))
        for original, hf in places.items()
    )
    return Stage("unused", tuple(points))


OUTPUT = (("", ":output", ":output", ("*",)),)
"""The table of a stage whose output is all that there is to see."""


def build_block(
    name: str, rows: Iterable[tuple[str, str, str, tuple[str, ...]]], original: str, hf: str, prefix: str = ""
) -> Stage:
    """A stage that is a module of both models, from a table of its capture points.

    Args:
        rows: of each point its name, empty for the output of the stage; its place in either module, relative to it;
            and patterns of keys, relative to the original's module, or to its model where they begin with a slash.
        original, hf: the module's path in either model.
        prefix: of the original's model.
    """
    points = [
        CapturePoint(
            f"{name}.{point}" if point else name,
            _join(original, original_place),
            _join(hf, hf_place),
            tuple(prefix + key[1:] if key.startswith("/") else f"{original}.{key}" for key in keys),
        )
        for point, original_place, hf_place, keys in rows
    ]
    return Stage(name, tuple(points), original, hf)


def _join(module: str, place: str) -> str:
    return module + place if place.startswith(":") else f"{module}.{place}"
