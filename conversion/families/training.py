"""What the authors' training writes: where a checkpoint holds the model, and what its tensors are like."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Generator, Tensor

Draw = Callable[[Tensor, Generator], Tensor]
"""Fills a tensor in place from a generator."""


@dataclass(frozen=True)
class Training:
    """What the authors' training of a family writes.

    Attributes:
        choose_container: the entry of a checkpoint file that holds a model of a spec, and what lies beside it; an empty
            name if the file is the state dict itself.
        distributions: how synthetic tensors are drawn, pattern of the key to distribution, before the common ones.
        default_entries: of a checkpoint with several models of this family, the entries to take first, in this order;
            none where the common order holds.
    """

    choose_container: Callable[[Any], tuple[str, Mapping[str, object]]] = lambda _spec: ("", {})
    distributions: Mapping[str, Draw] = field(default_factory=dict)
    default_entries: tuple[str, ...] = ()

    def choose_entry(self, spec: Any) -> str:
        """Choose the entry of a checkpoint file that holds the model; empty if the file is the state dict itself."""
        return self.choose_container(spec)[0]

    def pack(self, spec: Any, state_dict: Mapping[str, Tensor]) -> Mapping[str, object]:
        """Build the content of a checkpoint file."""
        entry, beside = self.choose_container(spec)
        return {entry: state_dict, **beside} if entry else state_dict


def normal(std: float, mean: float = 0.0) -> Draw:
    """Normal numbers."""
    return lambda tensor, generator: tensor.normal_(mean, std, generator=generator)


def uniform(low: float, high: float) -> Draw:
    """Numbers between two bounds."""
    return lambda tensor, generator: tensor.uniform_(low, high, generator=generator)


def fan_in(*summed: int, gain: float = 1.0) -> Draw:
    """Normal numbers that keep the scale of what they are multiplied with, or change it by a gain.

    Args:
        summed: the dimensions that the product sums over; all but the first, unless given.
    """

    def draw(tensor: Tensor, generator: Generator) -> Tensor:
        sizes = [tensor.shape[dim] for dim in summed] if summed else tensor.shape[1:]
        return tensor.normal_(0.0, gain / math.sqrt(math.prod(sizes)), generator=generator)

    return draw


def count(low: int, high: int) -> Draw:
    """Whole numbers, from ``low`` to below ``high``."""
    return lambda tensor, generator: tensor.random_(low, high, generator=generator)
