"""The same function with other roundings: a model whose sums and products are taken in other units.

Floating-point numbers round alike in units that are a power of two apart, and otherwise in any other. So an operation
that sums is given its operand times a factor, and its result divided by that: the same function in exact arithmetic,
with every rounding drawn anew. What is equal stays equal, and zeros stay zeros, so that errors that hang together
(equal tokens, a constant channel, a softmax over equal scores) still do. Noise on every element by itself, or the terms
of a sum in another order, would lose that, or change nothing.

What every implementation rounds alike is left as it is: sums and products of two tensors, element by element.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from conversion.parity.capture import ForwardPass, copy_structure
from conversion.parity.points import Inputs, Stage
from conversion.parity.precision import Casts

SMALLEST, LARGEST = 2**-0.5, 2**0.5
"""Of the factors: one binade, around 1, so that nothing overflows."""

Call = Callable[..., Any]


class OtherRoundings(TorchDispatchMode):
    """Draws the roundings of every operation anew.

    Args:
        seed: which roundings; the same each time.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._random = random.Random(seed)

    def draw(self) -> float:
        """A factor."""
        return self._random.uniform(SMALLEST, LARGEST)

    def __torch_dispatch__(
        self, func: Any, _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        other = OTHERS.get(name)
        if other and isinstance(args[0], Tensor) and args[0].is_floating_point():
            return other(self, func, *args, **kwargs)
        with self:  # what is made of other operations is taken apart
            result = func.decompose(*args, **kwargs)
        return func(*args, **kwargs) if result is NotImplemented else result


def _scale_first(mode: OtherRoundings, func: Call, first: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Of what is linear in its first argument."""
    factor = mode.draw()
    return func(first * factor, *args, **kwargs) / factor


def _scale_product(mode: OtherRoundings, func: Call, added: Tensor, left: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Of a product that is added to the first argument."""
    factor = mode.draw()
    return func(added, left * factor, *args, **{**kwargs, "alpha": kwargs.get("alpha", 1) / factor})


def _scale_result(mode: OtherRoundings, func: Call, *args: Any, **kwargs: Any) -> Any:
    """Of a function of single numbers, which every implementation rounds as it likes."""
    factor = mode.draw()
    return func(*args, **kwargs) * factor / factor


def _scale_norm(mode: OtherRoundings, func: Call, first: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Of a layer norm, whose eps is in the unit of a variance."""
    factor = mode.draw()
    shape, weight, bias, eps = args[:4]
    return func(first * factor, shape, weight, bias, eps * factor**2, *args[4:], **kwargs)


def _scale_maps(
    mode: OtherRoundings, func: Call, maps: Tensor, weight: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any
) -> Any:
    """Of a convolution."""
    result = _scale_first(mode, func, maps, weight, None, *args, **kwargs)
    return result if bias is None else result + bias.view(-1, *[1] * (weight.dim() - 2))


def _attend(
    mode: OtherRoundings, func: Call, query: Tensor, key: Tensor, value: Tensor, *args: Any, **named: Any
) -> Any:
    """Of attention: in one kernel, or, where it has neither mask nor dropout, written out."""
    scale = named.pop("scale", None) or query.shape[-1] ** -0.5
    is_one = func is torch.ops.aten.scaled_dot_product_attention.default
    if is_one and not args and not named and mode.draw() < 1:
        with mode:
            return (query * scale @ key.transpose(-2, -1)).softmax(-1) @ value
    factor, of_value = mode.draw(), mode.draw()
    result = func(query * factor, key, value * of_value, *args, **named, scale=scale / factor)
    return result / of_value if isinstance(result, Tensor) else (result[0] / of_value, *result[1:])


OTHERS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d"), _scale_first),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _scale_product),
    **dict.fromkeys(("_softmax", "gelu", "silu", "exp", "tanh", "erf", "sigmoid"), _scale_result),
    **dict.fromkeys(("native_layer_norm",), _scale_norm),
    **dict.fromkeys(("convolution",), _scale_maps),
    **dict.fromkeys(
        (
            "scaled_dot_product_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
        ),
        _attend,
    ),
}
"""How operations of torch are computed with other roundings, by their names."""


def run_otherwise(
    model: nn.Module,
    seed: int,
    stages: Sequence[Stage],
    asked: Sequence[Stage],
    inputs: Inputs,
    dtype: torch.dtype,
    casts: Casts,
) -> Iterator[Mapping[str, Tensor]]:
    """What an original computes in some stages with other roundings, run from the start, no further than to the last.

    Args:
        seed: which roundings.
        asked: of the stages, in their order.
        dtype, casts: as of :class:`ForwardPass`.
    """
    model = copy_structure(model)
    model.forward = partial(_run_otherwise, model.forward, seed)
    with closing(ForwardPass(model, stages, "original", inputs, dtype, casts)) as run:
        for stage in asked:
            yield run.read(stage).values


def _run_otherwise(forward: Call, seed: int, *args: Any, **kwargs: Any) -> Any:
    with OtherRoundings(seed):  # in the pass itself, which may run in a thread of its own
        return forward(*args, **kwargs)
