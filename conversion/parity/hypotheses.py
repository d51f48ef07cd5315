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
from conversion.parity.points import read_tap

EPSILONS = (1e-12, 1e-6, 1e-5)
"""Those that layer norms are known to have."""


@dataclass(frozen=True)
class Hypothesis:
    """A fault that may explain a failure: what it does to the original, so that it computes what the converted does."""

    name: str
    inject: Callable[[nn.Module], None]


def list_hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """The known faults that could show first where the failure did, simple ones first."""
    model, stage = evidence.run.model, evidence.stage
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    feeding = [key for key in tensors if any(fnmatch.fnmatchcase(key, source) for source in evidence.point.sources)]
    root = model.get_submodule(stage.original) if stage.original else None
    parts = _list_parts(evidence)
    if parts:
        whole = [key for key in feeding if tensors[key].dim() and tensors[key].shape[0] % len(parts) == 0]
        for keys in ([whole] if len(whole) > 1 else []) + [[key] for key in whole]:
            for order in list_orders(len(parts)):
                new = {key: partial(exchange_parts, order=order) for key in keys}
                yield Hypothesis(f"{_name_order(parts, order)} in {', '.join(keys)}", partial(_change, new))
    for key in feeding:
        for kind, fault in TENSOR_FAULTS.items():
            yield Hypothesis(f"{key} {kind}", partial(_change, {key: fault}))
            for index, part in enumerate(parts):
                of_part = partial(_change_part, fault, index, len(parts))
                yield Hypothesis(f"{part} of {key} {kind}", partial(_change, {key: of_part}))
        for neighbour in _list_neighbours(key, tensors):
            for index, part in enumerate([*parts, ""]):
                take = partial(_take_part, tensors[neighbour], index if part else 0, len(parts) if part else 1)
                of = f"{part} of " if part else ""
                yield Hypothesis(f"{of}{key} is that of {neighbour}", partial(_change, {key: take}))
        for other in tensors:
            if root is not None and other.startswith(stage.original) and other != key:
                swap = {key: partial(_become, tensors[other]), other: partial(_become, tensors[key])}
                yield Hypothesis(f"{key} and {other} exchanged", partial(_change, swap))
    if root is None:
        return
    for eps in EPSILONS:
        yield Hypothesis(f"a layer norm eps of {eps:g}", partial(_set_eps, stage.original, eps))
    for path, module in root.named_modules():
        if isinstance(heads := getattr(module, "num_heads", None), int):
            for other_heads in (2 * heads, heads // 2, 4 * heads, heads // 4):
                name = f"{other_heads} attention heads in place of {heads}"
                yield Hypothesis(name, partial(_set_heads, f"{stage.original}.{path}".strip("."), other_heads))


def _list_parts(evidence: Evidence) -> list[str]:
    """Names of the parts that a fused projection is cut into, if the failure is at one: q, k, v."""
    tap = read_tap(evidence.point.original)
    names = [point.name for point in evidence.stage.points if read_tap(point.original).module == tap.module]
    return [name.rpartition(".")[2] for name in names] if tap.parts > 1 else []


def _name_order(parts: Sequence[str], order: tuple[int, ...]) -> str:
    moved = [index for index, source in enumerate(order) if index != source]
    if len(moved) == 2:
        return f"{parts[moved[0]]} and {parts[moved[1]]} exchanged"
    return f"{', '.join(parts)} taken for {', '.join(parts[source] for source in order)}"


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
        if after is None or after.shape != before.shape:
            continue
        is_parameter = isinstance(before, nn.Parameter)
        setattr(module, name, nn.Parameter(after, requires_grad=False) if is_parameter else after)


def _change_part(change: Callable[[Tensor], Tensor | None], index: int, count: int, tensor: Tensor) -> Tensor | None:
    if not tensor.dim() or tensor.shape[0] % count:
        return None
    parts = list(tensor.chunk(count))
    after = change(parts[index])
    if after is None:
        return None
    parts[index] = after
    return torch.cat(parts)


def _take_part(other: Tensor, index: int, count: int, tensor: Tensor) -> Tensor | None:
    return _change_part(lambda _: other.detach().chunk(count)[index], index, count, tensor)


def _become(other: Tensor, _tensor: Tensor) -> Tensor:
    return other.detach()


def _set_eps(path: str, eps: float, model: nn.Module) -> None:
    for module in model.get_submodule(path).modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def _set_heads(path: str, num_heads: int, model: nn.Module) -> None:
    model.get_submodule(path).num_heads = num_heads  # type: ignore[assignment]
