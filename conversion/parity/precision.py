"""Running a model in another dtype than its weights are kept in, and in little memory."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

KEPT_CASTS = 2**28
"""Bytes: the block that several passes are at fits, in float64, of the largest official model too (226 MB)."""

CHANNELS = 512
"""That are padded at a time for a convolution in float64."""


class Casts:
    """Weights in another dtype, kept for the next pass that comes to the same module; the oldest go, to save memory.

    Args:
        limit: bytes to keep.
    """

    def __init__(self, limit: int = KEPT_CASTS) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = OrderedDict()

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """``weight`` in ``dtype``; a parameter stays one."""
        key = id(weight), dtype
        if key not in self._kept:
            cast = weight.to(dtype)
            if isinstance(weight, nn.Parameter):
                cast = nn.Parameter(cast, requires_grad=False)
            self._kept[key] = weight, cast  # the weight, too, or another could take its id
            self._size += cast.nbytes
            while self._size > self._limit and len(self._kept) > 1:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._size -= oldest.nbytes
        return self._kept[key][1]


@contextmanager
def cast_parameters(model: nn.Module, dtype: torch.dtype, casts: Casts | None = None) -> Iterator[None]:
    """Run a model in another dtype with one module's weights cast at a time.

    While a module runs, its own parameters and floating-point buffers are replaced by casts; afterwards it has its
    own back. A copy of a whole model in float64 would take twice its memory. The parameters of the outermost module
    are cast for the whole run.

    Args:
        casts: shared with other passes of the same weights.
    """
    casts = casts or Casts(limit=0)
    with ExitStack() as stack:
        for module in model.modules():
            weights = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
            weights = {name: value for name, value in weights.items() if value.is_floating_point()}
            if any(value.dtype != dtype for value in weights.values()):
                stack.callback(_assign, module, weights)
                stack.enter_context(hooked(module.register_forward_pre_hook(partial(_cast, weights, dtype, casts))))
                stack.enter_context(hooked(module.register_forward_hook(partial(_restore, weights))))
        yield


def cast_arguments(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """The arguments of a call with every floating-point tensor in ``dtype``."""

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    args, kwargs = arguments
    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}


def convolve_by_places(model: nn.Module) -> None:
    """Have a model's convolutions computed as a matrix product for each place of the kernel, for float64.

    torch has no kernel for that which does without laying out all that the kernel passes, as many times the map as the
    kernel has places: 4.8 GB at a time in the official segmentation models. The products are the same, summed in
    another order, in a fifth less time.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str) or module.padding_mode != "zeros":
            continue
        if module.groups == 1 and module.stride == (1, 1) and module.kernel_size != (1, 1):
            module.forward = partial(_convolve_by_places, module)  # type: ignore[method-assign]


def _convolve_by_places(module: nn.Conv2d, maps: Tensor) -> Tensor:
    """An image at a time, and some channels at a time, so that little is held besides what goes in and comes out."""
    (rows, columns), (down, right), (tall, wide) = map(int, module.padding), module.dilation, module.kernel_size
    height, width = maps.shape[-2] + 2 * rows - down * (tall - 1), maps.shape[-1] + 2 * columns - right * (wide - 1)
    result = maps.new_empty(len(maps), module.out_channels, height, width)
    for image, place in zip(maps, result, strict=True):
        place.copy_(_convolve_image(module, image, height)[..., :width])
    return result


def _convolve_image(module: nn.Conv2d, image: Tensor, height: int) -> Tensor:
    """``(C, ...)`` to ``(D, height, ...)``, with the padding's columns left at the end of every row.

    A place of the kernel sees the padded image shifted, that is, its flattened rows from another start. The row that is
    padded at the end is for the last places, which end beyond the last row.
    """
    (rows, columns), (down, right) = map(int, module.padding), module.dilation
    width = image.shape[-1] + 2 * columns
    total = image.new_zeros(module.out_channels, height * width)
    if module.bias is not None:
        total += module.bias.unsqueeze(-1)
    for channels, weight in zip(image.split(CHANNELS), module.weight.split(CHANNELS, dim=1), strict=True):
        flat = F.pad(channels, (columns, columns, rows, rows + 1)).flatten(1)
        kernel = weight.permute(2, 3, 0, 1).contiguous()
        for i, j in product(*map(range, module.kernel_size)):
            start = i * down * width + j * right
            total.addmm_(kernel[i, j], flat[:, start : start + height * width])
    return total.view(module.out_channels, height, width)


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype, casts: Casts, module: nn.Module, _args: Any) -> None:
    _assign(module, {name: casts.cast(value, dtype) for name, value in weights.items()})


def _restore(weights: Mapping[str, Tensor], module: nn.Module, _args: Any, _output: Any) -> None:
    _assign(module, weights)


def _assign(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        setattr(module, name, value)


@contextmanager
def hooked(handle: Any) -> Iterator[None]:
    """Remove a hook of a module at the end of the context."""
    try:
        yield
    finally:
        handle.remove()
