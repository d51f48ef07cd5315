"""Known faults that may explain a failure, each put into the original, so that it computes what the converted does."""

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from conversion.parity.compare import Evidence
from conversion.parity.faults import TENSOR_FAULTS, exchange_parts, list_orders
from conversion.parity.points import read_place

EPSILONS = (1e-12, 1e-6, 1e-5)
"""Those that layer norms are known to have."""


@dataclass(frozen=True)
class Hypothesis:
    """A fault that may explain a failure: what it does to the original, so that it computes what the converted does."""

    name: str
    inject: Callable[[nn.Module], None]


def list_hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """The known faults that could show first where the failure did."""
    model = evidence.run.model
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    feeding = [key for key in tensors if any(fnmatch.fnmatchcase(key, source) for source in evidence.point.sources)]
    parts = _list_parts(evidence)
    fused = (
        [key for key in feeding if key.startswith(f"{read_place(evidence.point.original).module}.")] if parts else []
    )
    yield from _reorder_parts(fused, parts)
    for key in feeding:
        yield from _change_tensor(key, tensors, parts if key in fused else [])
    if evidence.stage.original:
        within = [key for key in tensors if key.startswith(f"{evidence.stage.original}.")]
        yield from _exchange_tensors(feeding, within, tensors)
        yield from _change_settings(evidence.stage.original, model)


def _reorder_parts(fused: Sequence[str], parts: Sequence[str]) -> Iterator[Hypothesis]:
    """The parts of a fused projection in another order: in all its tensors, or in one."""
    for keys in ([fused] if len(fused) > 1 else []) + [[key] for key in fused]:
        for order in list_orders(len(parts)):
            changes = {key: partial(exchange_parts, order=order) for key in keys}
            yield Hypothesis(f"{_name_order(parts, order)} in {', '.join(keys)}", partial(_change, changes))


def _change_tensor(key: str, tensors: Mapping[str, Tensor], parts: Sequence[str]) -> Iterator[Hypothesis]:
    """One tensor, or one of its parts, changed by itself or taken from a neighbouring block."""
    named = [("", 0, 1), *((f"{part} of ", index, len(parts)) for index, part in enumerate(parts))]
    for part, index, count in named:
        for kind, fault in TENSOR_FAULTS.items():
            changes = {key: partial(_change_part, fault, index, count)}
            yield Hypothesis(f"{part}{key} {kind}", partial(_change, changes))
        for neighbour in _list_neighbours(key, tensors):
            changes = {key: partial(_take_part, tensors[neighbour], index, count)}
            yield Hypothesis(f"{part}{key} is that of {neighbour}", partial(_change, changes))


def _exchange_tensors(
    feeding: Sequence[str], within: Sequence[str], tensors: Mapping[str, Tensor]
) -> Iterator[Hypothesis]:
    """Two tensors of one stage and one shape, each in the other's place."""
    for key in feeding:
        for other in within:
            if other != key and tensors[other].shape == tensors[key].shape:
                changes = {key: partial(_become, tensors[other]), other: partial(_become, tensors[key])}
                yield Hypothesis(f"{key} and {other} exchanged", partial(_change, changes))


def _change_settings(stage: str, model: nn.Module) -> Iterator[Hypothesis]:
    """What is no tensor: the eps of layer norms, the number of heads."""
    own = {norm.eps for norm in _list_norms(stage, model)}
    for eps in EPSILONS:
        if own - {eps}:
            before = " and ".join(f"{each:g}" for each in sorted(own))
            yield Hypothesis(f"layer norm eps {eps:g}, original {before}", partial(_set_eps, stage, eps))
    for path, module in model.get_submodule(stage).named_modules():
        heads = getattr(module, "num_heads", None)
        for other in (2 * heads, heads // 2, 4 * heads, heads // 4) if isinstance(heads, int) else ():
            inject = partial(_set_heads, f"{stage}.{path}".strip("."), other)
            yield Hypothesis(f"{other} attention heads, original {heads}", inject)


def _list_parts(evidence: Evidence) -> list[str]:
    """Names of the parts that a fused projection is cut into, if the failure is at one: q, k, v."""
    place = read_place(evidence.point.original)
    names = [point.name for point in evidence.stage.points if read_place(point.original).module == place.module]
    return [name.rpartition(".")[2] for name in names] if place.parts > 1 else []


def _name_order(parts: Sequence[str], order: tuple[int, ...]) -> str:
    moved = [index for index, source in enumerate(order) if index != source]
    if len(moved) == 2:
        return f"{parts[moved[0]]} and {parts[moved[1]]} exchanged"
    return f"{', '.join(parts[source] for source in order)} taken for {', '.join(parts)}"


def _list_neighbours(key: str, tensors: Mapping[str, Tensor]) -> list[str]:
    found = re.search(r"\.(\d+)\.", key)
    if not found:
        return []
    start, end = found.span(1)
    names = [f"{key[:start]}{int(found[1]) + step}{key[end:]}" for step in (-1, 1)]
    return [name for name in names if name in tensors]


def _change(changes: Mapping[str, Callable[[Tensor], Tensor | None]], model: nn.Module) -> None:
    for key, change in changes.items():
        path, _, name = key.rpartition(".")
        module = model.get_submodule(path)
        before = getattr(module, name)
        after = change(before.detach())
        if after is None or (after.shape, after.dtype) != (before.shape, before.dtype):
            continue
        is_parameter = isinstance(before, nn.Parameter)
        setattr(module, name, nn.Parameter(after, requires_grad=False) if is_parameter else after)


def _change_part(change: Callable[[Tensor], Tensor | None], index: int, count: int, tensor: Tensor) -> Tensor | None:
    if count == 1:
        return change(tensor)
    if not tensor.dim() or tensor.shape[0] % count:
        return None
    parts = list(tensor.chunk(count))
    after = change(parts[index])
    if after is None:
        return None
    parts[index] = after
    return torch.cat(parts)


def _take_part(other: Tensor, index: int, count: int, tensor: Tensor) -> Tensor | None:
    if other.shape != tensor.shape:
        return None
    # a counter, of no dimension, has no parts
    return _change_part(
        lambda _: other.detach().chunk(count)[index] if count > 1 else other.detach(), index, count, tensor
    )


def _become(other: Tensor, _tensor: Tensor) -> Tensor:
    return other.detach()


def _set_eps(path: str, eps: float, model: nn.Module) -> None:
    for norm in _list_norms(path, model):
        norm.eps = eps


def _list_norms(path: str, model: nn.Module) -> list[nn.LayerNorm]:
    return [module for module in model.get_submodule(path).modules() if isinstance(module, nn.LayerNorm)]


def _set_heads(path: str, num_heads: int, model: nn.Module) -> None:
    model.get_submodule(path).num_heads = num_heads  # type: ignore[assignment]
