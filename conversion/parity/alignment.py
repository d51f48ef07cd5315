"""Where weights lie in memory, which may decide how a matrix product rounds, and copies that lie where it does not.

MKL's matrix-vector product (a classifier on a batch of one) rounds otherwise without AVX-512 where the matrix does not
begin at a multiple of 16 bytes. A model that is mapped from a file lies as it does in the file.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from conversion.parity.capture import copy_structure

ALIGNMENT = 64
"""Bytes: what torch aligns its own tensors to, a cache line, and the widest vector of a processor."""


def is_aligned(tensor: Tensor) -> bool:
    """Whether a tensor begins at a multiple of :data:`ALIGNMENT`."""
    return tensor.data_ptr() % ALIGNMENT == 0


def find_misaligned(model: nn.Module, dtype: torch.dtype) -> str | None:
    """The key of a matrix of a model that is not aligned, if there is one.

    Vectors do not count: they are added and multiplied elementwise, which is the same wherever they lie.

    Args:
        dtype: that the model runs in; weights in another are cast for it, to memory that is aligned.
    """
    named = (item for _, _, items in _list_tensors(model) for item in items)
    matrices = ((name, value) for name, value in named if value.dim() > 1 and value.dtype == dtype)
    return next((name for name, value in matrices if not is_aligned(value)), None)


def copy_aligned(model: nn.Module) -> nn.Module:
    """The same modules once more, with every floating-point tensor that is not aligned copied to where it is.

    All others are shared with ``model``.
    """
    model = copy_structure(model)
    copies: dict[int, Tensor] = {}  # one that several modules share stays shared
    for module, prefix, items in list(_list_tensors(model)):
        for name, value in items:
            if is_aligned(value):
                continue
            copy = copies.setdefault(id(value), value.detach().clone())
            if isinstance(value, nn.Parameter) and not isinstance(copy, nn.Parameter):
                copy = copies[id(value)] = nn.Parameter(copy, requires_grad=value.requires_grad)
            setattr(module, name.removeprefix(prefix), copy)
    return model


def _list_tensors(model: nn.Module) -> Iterator[tuple[nn.Module, str, list[tuple[str, Tensor]]]]:
    """Each module, its prefix, and its own floating-point parameters and buffers by their full names."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        yield module, prefix, [(prefix + name, value) for name, value in own if value.is_floating_point()]
