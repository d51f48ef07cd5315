"""Running a model in another dtype than its weights are kept in."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def cast_parameters(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Run a model in another dtype with one module's weights cast at a time.

    While a module runs, its own parameters and floating-point buffers are replaced by casts; afterwards it has its
    own back. A copy of a whole model in float64 would take twice its memory. The parameters of the outermost module
    are cast for the whole run.
    """
    with ExitStack() as stack:
        for module in model.modules():
            weights = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
            weights = {name: value for name, value in weights.items() if value.is_floating_point()}
            if any(value.dtype != dtype for value in weights.values()):
                stack.callback(_assign, module, weights)
                stack.enter_context(hooked(module.register_forward_pre_hook(partial(_cast, weights, dtype))))
                stack.enter_context(hooked(module.register_forward_hook(partial(_restore, weights))))
        yield


def cast_arguments(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """The arguments of a call with every floating-point tensor in ``dtype``."""

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    args, kwargs = arguments
    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype, module: nn.Module, _args: Any) -> None:
    for name, value in weights.items():
        is_parameter = isinstance(value, nn.Parameter)
        setattr(module, name, nn.Parameter(value.to(dtype), requires_grad=False) if is_parameter else value.to(dtype))


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
