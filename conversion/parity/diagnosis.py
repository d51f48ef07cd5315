"""What failed, where, by how much, what feeds it, whether it arose there, and which known fault explains it."""

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from conversion.parity.capture import ForwardPass, run_stage, twin
from conversion.parity.compare import Evidence
from conversion.parity.faults import TENSOR_FAULTS, exchange_parts, list_orders
from conversion.parity.metrics import error_of, ulp_distance
from conversion.parity.points import read_tap
from conversion.parity.verdict import PointVerdict, Verdict, judge
from conversion.parity.verify import InputVerdict

EPSILONS = (1e-12, 1e-6, 1e-5)
"""Those that layer norms are known to have."""

REDUCTION = 0.01
"""A fault that leaves more than this share of a difference does not explain it, whatever else is rounding."""


@dataclass(frozen=True)
class Hypothesis:
    """A fault that may explain a failure: what it does to the original, so that it computes what the converted does."""

    name: str
    inject: Callable[[nn.Module], None]


def describe_failure(variant: str, where: str, results: Sequence[InputVerdict]) -> str:
    """Say what failed, in full for the first input that did; fewer than forty lines, none longer than a terminal."""
    lines = [f"{variant} ({where}): not the same model."]
    is_first = True
    for result in results:
        failed = [point for point in result.decisive if point.verdict is Verdict.FAILED]
        if result.verdict is not Verdict.FAILED or not failed:
            lines.append(f"  {result.name}: {result.verdict}")
            continue
        explained = f", not explained by the known deviation {result.deviation!r}" if result.deviation else ""
        count = f"{len(failed)} of {len(result.decisive)} capture points"
        lines.append(f"  {result.name}: failed at {count}, first at {failed[0].point}{explained}")
        if is_first and result.evidence:
            lines += [f"    {line}" for line in _describe_point(failed[0], result.evidence)]
            is_first = False
    return "\n".join(lines)


def _describe_point(point: PointVerdict, evidence: Evidence) -> list[str]:
    lines = [point.reason, f"fed by     {', '.join(evidence.point.sources) or 'nothing of its own'}"]
    if point.difference is None:
        return lines
    rows = [("difference", point.difference, str(point.difference.max_ulp), "converted against original")]
    if point.local and evidence.local is not None:
        ulp = _max_ulp(evidence.expected.values[point.point], evidence.local[point.point])
        rows.append(("local", point.local, ulp, "the same, both fed what the original has before"))
    if point.original_error and point.converted_error and point.allowed:
        rows.append(("error", point.converted_error, "", "of the converted, held against float64"))
        rows.append(("allowed", point.allowed, "", "twice the original's own, or a floor"))
        rows.append(("original", point.original_error, "", "the original's own, held against float64"))
    lines.append(f"{'':10} {'max abs':>10} {'RMS':>10} {'max ULP':>12}")
    lines += [f"{name:10} {size.max_abs:10.3g} {size.rms:10.3g} {ulp:>12}  {of}" for name, size, ulp, of in rows]
    lines.append(f"arose      {'here' if arose_here(evidence) else 'before: by itself, this stage agrees'}")
    lines.append(f"explained  {'by ' + found if (found := find_explanation(evidence)) else 'by none of the known faults'}")
    return lines


def _max_ulp(expected: Tensor, actual: Tensor) -> str:
    return str(int(ulp_distance(expected, actual).max())) if expected.is_floating_point() else ""


def arose_here(evidence: Evidence) -> bool:
    """Whether the stage that failed fails by itself, too, fed the original's input."""
    name = evidence.point.name
    if evidence.local is None or name not in evidence.local:
        return True  # nothing before it failed
    return not _agrees(evidence, evidence.run.model, evidence.expected.values, [name])


def find_explanation(evidence: Evidence) -> str:
    """The name of a known fault that, put into the original, makes it compute what the converted model does.

    It must reproduce every capture point of the stage; empty where none does.
    """
    if evidence.local is None:
        return ""
    with torch.inference_mode():
        for hypothesis in list_hypotheses(evidence):
            model = twin(evidence.run.model)
            hypothesis.inject(model)
            try:
                values = _compute(evidence, model, evidence.run.dtype)
            except RuntimeError:  # a head count that goes with no table of relative positions, say
                continue
            if _is_near(evidence, values) and _agrees(evidence, model, values, list(values)):
                return hypothesis.name
    return ""


def _compute(evidence: Evidence, model: nn.Module, dtype: torch.dtype) -> Mapping[str, Tensor]:
    """What the original, or one with a fault, computes in the stage."""
    run = evidence.run
    if evidence.expected.arguments:
        return run_stage(model, evidence.stage, "original", evidence.expected.arguments, dtype)
    one = ForwardPass(model, run.stages, "original", run.inputs.to("cpu", run.dtype), dtype)
    values = one.read(evidence.stage).values
    one.close()
    return values


def _is_near(evidence: Evidence, values: Mapping[str, Tensor]) -> bool:
    """Whether an original with a fault comes so near that it is worth the yardstick."""
    name = evidence.point.name
    if evidence.local is None or name not in values or values[name].shape != evidence.local[name].shape:
        return False
    without = error_of(evidence.local[name], evidence.expected.values[name])
    return error_of(evidence.local[name], values[name]).rms <= REDUCTION * without.rms


def _agrees(evidence: Evidence, model: nn.Module, values: Mapping[str, Tensor], names: Sequence[str]) -> bool:
    """Whether what the converted model computes locally is, up to rounding, what this original does."""
    assert evidence.local is not None
    precise = _compute(evidence, model, evidence.run.other_dtype)
    weighed = {name: partial(evidence.run.weigh, values[name], precise[name]) for name in names}
    verdicts = [judge(name, values[name], evidence.local[name], weighed[name]).verdict for name in names]
    return Verdict.FAILED not in verdicts


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
