"""How a synthetic tensor is drawn: fills a tensor in place from a generator."""

import math
from collections.abc import Callable

from torch import Generator, Tensor

Draw = Callable[[Tensor, Generator], Tensor]


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
