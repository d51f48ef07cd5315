"""How far two tensors are apart: in the largest element, in the mean square, and whether in any bit at all."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 2**17
"""Elements measured at a time: what is computed on the way then stays in the processor's cache."""

MAPS = 4
"""Dimensions of a batch of maps: images, channels, height, width."""

_INTEGER_VIEW = {torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16,
                 torch.bfloat16: torch.int16}  # fmt: skip


@dataclass(frozen=True)
class Distance:
    """How far two tensors are apart, in their own unit."""

    max_abs: float
    rms: float


@dataclass(frozen=True)
class Departure(Distance):
    """How far a tensor is from a reference, and how large that is.

    Attributes:
        scale: root mean square of the reference.
    """

    scale: float


@dataclass(frozen=True)
class Likeness:
    """How alike two tensors of one batch are, in figures that are common for lossy models.

    Attributes:
        cosine: of the two, each image's values as one vector; the smallest of the batch.
        top: of logits, the part of the decisions that are the same: a class for an image, or for each place of a map
            ``(B, C, height, width)``; None of what decides nothing.
    """

    cosine: float
    top: float | None


NO_DIFFERENCE = Distance(0.0, 0.0)


def error_of(tensor: Tensor, reference: Tensor) -> Distance:
    """Error of ``tensor`` ``(...)`` against a ``reference`` of its shape, computed in float64."""
    largest, squares = zip(*(_error_of_chunk(*pair) for pair in _pair_chunks(tensor, reference)), strict=True)
    mean_square = sum(squares) / tensor.numel()  # NaN in a chunk stays NaN
    return Distance(math.nan if math.isnan(mean_square) else max(largest), math.sqrt(mean_square))


def departure_of(tensor: Tensor, reference: Tensor) -> Departure:
    """How far ``tensor`` ``(...)`` is from a ``reference`` of its shape, and how large that is."""
    error = error_of(tensor, reference)
    return Departure(error.max_abs, error.rms, size_of(reference).rms)


def likeness_of(tensor: Tensor, reference: Tensor, *, decides: bool) -> Likeness:
    """How alike ``tensor`` ``(B, ...)`` is to a ``reference`` of its shape, computed in float64.

    Args:
        decides: whether these are logits.
    """
    actual, expected = tensor.double(), reference.double()
    cosine = float(torch.nn.functional.cosine_similarity(actual.flatten(1), expected.flatten(1)).min())
    if not decides:
        return Likeness(cosine, None)
    channels = 1 if reference.ndim == MAPS else -1
    is_same = actual.argmax(channels) == expected.argmax(channels)
    return Likeness(cosine, float(is_same.double().mean()))


def size_of(tensor: Tensor) -> Distance:
    """Distance of ``tensor`` ``(...)`` from zero, in its own precision."""
    return Distance(_largest(tensor), float(torch.linalg.vector_norm(tensor)) / math.sqrt(tensor.numel()))


def range_of(tensor: Tensor) -> tuple[float, float]:
    """The smallest and the largest element; NaN if there is one."""
    smallest, largest = tensor.aminmax()
    return float(smallest), float(largest)


def is_bit_equal(expected: Tensor, actual: Tensor) -> bool:
    """Whether shape, dtype and every bit agree, the sign of zeros and the payload of NaNs included."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if not expected.is_floating_point():
        return expected.layout == actual.layout and torch.equal(expected, actual)
    return torch.equal(*_as_integers(expected.contiguous().flatten(), actual.contiguous().flatten()))


def _as_integers(*tensors: Tensor) -> list[Tensor]:
    """Flat tensors of one dtype as integers: of 64 bits where these fit, which are compared twice as fast as 32."""
    fit = all(tensor.nbytes % 8 == 0 and tensor.data_ptr() % 8 == 0 for tensor in tensors)
    fit &= all(tensor.storage_offset() * tensor.element_size() % 8 == 0 for tensor in tensors)
    integer = torch.int64 if fit else _INTEGER_VIEW[tensors[0].dtype]
    return [tensor.view(integer) for tensor in tensors]


def _pair_chunks(left: Tensor, right: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    if left.numel() <= CHUNK:
        return iter([(left, right)])
    return zip(left.flatten().split(CHUNK), right.flatten().split(CHUNK), strict=True)


def _error_of_chunk(tensor: Tensor, reference: Tensor) -> tuple[float, float]:
    difference = tensor.double().flatten() - reference.double().flatten()
    return _largest(difference), float(difference.dot(difference))


def _largest(tensor: Tensor) -> float:
    """The largest magnitude; NaN if there is one, since both ends are NaN then."""
    smallest, largest = range_of(tensor)
    return max(abs(smallest), abs(largest))
