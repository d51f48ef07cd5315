"""Faults: small pure functions with a name, to be injected where each must be noticed, and to recognise one by.

What they do to a tensor is here; a family is not known. Where nothing would change, there is no fault: None.
"""

from collections.abc import Callable, Mapping
from itertools import permutations

import torch
from torch import Tensor

TensorFault = Callable[[Tensor], Tensor | None]


def zero(tensor: Tensor) -> Tensor:
    """All zeros: a tensor that was never loaded."""
    return torch.zeros_like(tensor)


def transpose(tensor: Tensor) -> Tensor | None:
    """A square matrix with rows and columns exchanged, which no shape tells."""
    is_square = tensor.dim() == 2 and tensor.shape[0] == tensor.shape[1]
    return tensor.T.contiguous() if is_square else None


def flip_sign(tensor: Tensor) -> Tensor | None:
    """Every element with the other sign; flags and zeros have none."""
    return None if tensor.dtype == torch.bool or not tensor.any() else -tensor


def roll_rows(tensor: Tensor) -> Tensor | None:
    """Along the first dimension that has several elements, each in the place of the next."""
    dim = next((dim for dim, size in enumerate(tensor.shape) if size > 1), None)
    return None if dim is None else tensor.roll(1, dims=dim)


def exchange_halves(tensor: Tensor) -> Tensor | None:
    """The first half of the rows after the second."""
    rows = tensor.shape[0] if tensor.dim() else 0
    return tensor.roll(rows // 2, dims=0) if rows and rows % 2 == 0 else None


def shift_one_element(tensor: Tensor) -> Tensor | None:
    """The middle element off by a tenth of the tensor's standard deviation; a counter by one; a flag the other way."""
    changed = tensor.clone().flatten()
    middle = changed[len(changed) // 2 : len(changed) // 2 + 1]
    if tensor.dtype == torch.bool:
        middle.logical_not_()
    elif not tensor.is_floating_point():
        middle += 1
    elif tensor.numel() > 1:
        middle += 0.1 * tensor.std()
    else:
        return None
    return changed.view(tensor.shape)


def cast_through(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """Rounded to a narrower dtype, and kept in its own."""
    return tensor.to(dtype).to(tensor.dtype)


def exchange_parts(tensor: Tensor, order: tuple[int, ...]) -> Tensor | None:
    """Equal parts of the rows in another order."""
    if not tensor.dim() or tensor.shape[0] % len(order):
        return None
    parts = tensor.chunk(len(order))
    return torch.cat([parts[index] for index in order])


TENSOR_FAULTS: Mapping[str, TensorFault] = {
    "zeroed": zero,
    "transposed": transpose,
    "sign flipped": flip_sign,
    "rows rolled": roll_rows,
    "halves exchanged": exchange_halves,
    "one element off by 10 % of a standard deviation": shift_one_element,
    "cast through bfloat16": lambda tensor: cast_through(torch.bfloat16, tensor),
    "cast through float16": lambda tensor: cast_through(torch.float16, tensor),
}
"""What can become of one tensor, by name."""


def list_orders(parts: int) -> list[tuple[int, ...]]:
    """Every wrong order of that many parts."""
    return list(permutations(range(parts)))[1:]
