"""Faults put into a conversion that is otherwise right; the source stays what it was."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from conversion import Conversion

Fault = Callable[[Conversion], Conversion]


def intact(out: Conversion) -> Conversion:
    """No fault."""
    return out


def exchange(out: Conversion, *pairs: tuple[str, str]) -> Conversion:
    """Tensors in each other's place."""
    renamed = {left: right for pair in pairs for left, right in (pair, pair[::-1])}
    return replace(out, state_dict={key: out.state_dict[renamed.get(key, key)] for key in out.state_dict})


def exchange_projections(block: int, left: str, right: str, out: Conversion) -> Conversion:
    """Two of query, key and value in each other's place, with their biases where both have one."""
    attention = f"encoder.layer.{block}.attention.attention"
    pairs = [(f"{attention}.{left}.{kind}", f"{attention}.{right}.{kind}") for kind in ("weight", "bias")]
    return exchange(out, *(pair for pair in pairs if out.state_dict.keys() >= set(pair)))


def change(key: str, fault: Callable[[Tensor], Tensor | None], out: Conversion) -> Conversion:
    """A tensor changed by a fault that applies to it."""
    changed = fault(out.state_dict[key])
    assert changed is not None, key
    return replace(out, state_dict={**out.state_dict, key: changed})


def take_from(key: str, other: str, out: Conversion) -> Conversion:
    """A tensor in the place of two."""
    return replace(out, state_dict={**out.state_dict, key: out.state_dict[other]})


def drop(key: str, out: Conversion) -> Conversion:
    """A tensor left out."""
    return replace(out, state_dict={name: tensor for name, tensor in out.state_dict.items() if name != key})


def set_config(name: str, value: object, out: Conversion) -> Conversion:
    """Another setting of the config."""
    setattr(out.config, name, value)
    return out
