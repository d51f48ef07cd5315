"""Buffers that depend only on the model's size: dropped, computed again, and compared with what the file holds."""

from collections.abc import Mapping

import torch
from torch import Tensor

from conversion.errors import KeyMapError
from conversion.mapping.key_map import StateDict
from conversion.parity.metrics import is_bit_equal

LARGEST_DECAY = 0.99999
"""Of the moving averages whose traces are known; with this one an entry v sinks by up to v * 2^-23 / (1 - decay)."""

HINT = (
    "Give the weights as they were trained, not an average of them (of several entries: --entry model); or delete "
    "these keys from the state dict if the model does not need them."
)


def check_derived(derived: StateDict, held: StateDict, name: str) -> dict[str, str]:
    """Check that each dropped buffer has the value that the spec gives it.

    A moving average of a whole state dict truncates its whole numbers. Such a buffer is damaged, and is computed again.

    Args:
        derived: what follows from the spec.
        held: what was dropped.
        name: of the model, for the error.

    Returns:
        key to what was found, of each buffer that was damaged by averaging and is to be computed again.

    Raises:
        KeyMapError: tensors of these names that follow from nothing, or are other ones altogether.
    """
    names = {key.rpartition(".")[2] for key in derived}
    problems: list[str] = []
    damaged: dict[str, str] = {}
    for key, tensor in held.items():
        if key.rpartition(".")[2] not in names or (key in derived and _is_equal(derived[key], tensor)):
            continue
        if key in derived and is_truncated(derived[key], tensor):
            damaged[key] = _describe(derived[key], tensor)
        else:
            problems.append(f"{key}: {tuple(tensor.shape)} {tensor.dtype}, is not what follows from the model's size")
    if problems:
        raise KeyMapError(f"{name}: {len(problems)} tensor(s) that cannot be left out.", problems, HINT)
    return damaged


def is_truncated(whole: Tensor, tensor: Tensor) -> bool:
    """Whether this is the buffer of whole numbers after a moving average in float32, truncated at each update.

    An update gives ``trunc(decay * old + (1 - decay) * new)``. Each of its two roundings that matter is at most
    ``new * 2^-24``. So the average never rises above ``new``; it sinks by one, and on until ``1 - decay`` times the
    distance outweighs the rounding. Any other buffer, as of another order of rows, differs in both directions.
    """
    if tensor.dtype != whole.dtype or tensor.layout != torch.strided or tensor.shape != whole.shape:
        return False
    difference = whole - tensor.cpu()
    limit = 1 + whole * (2.0**-23 / (1 - LARGEST_DECAY))
    return bool((difference >= 0).all() and (difference <= limit).all() and (tensor >= 0).all())


def _is_equal(whole: Tensor, tensor: Tensor) -> bool:
    return tensor.is_meta or is_bit_equal(whole, tensor.cpu())


def _describe(whole: Tensor, tensor: Tensor) -> str:
    wrong = whole != tensor.cpu()
    return f"{int(wrong.sum()):,} of {whole.numel():,} entries truncated by averaging; computed again"


def list_damage(damaged: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each kind of damage: the first key that has it, how many more do, and what was found."""
    keys: dict[str, list[str]] = {}
    for key, text in damaged.items():
        keys.setdefault(text, []).append(key)
    return tuple(
        f"{first}{f' and {len(others)} more' if others else ''}: {text}" for text, (first, *others) in keys.items()
    )
