"""What failed, where, by how much, what feeds it, whether it arose there, and which known fault explains it."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial

import torch
from torch import Tensor, nn

from conversion.parity.capture import ForwardPass, copy_structure, run_stage
from conversion.parity.compare import Evidence
from conversion.parity.deviations import split_names
from conversion.parity.hypotheses import list_hypotheses
from conversion.parity.metrics import Distance, error_of
from conversion.parity.off import RETURNED, Off, find_largest, format_off
from conversion.parity.verdict import OVERFLOW, PointVerdict, Verdict, judge
from conversion.parity.verify import InputVerdict

REDUCTION = 0.01
"""A fault that leaves more than this share of a difference does not explain it, whatever else is rounding."""

INPUT = "the input alone: of the photo, what the image processor makes of it"

UNEXPLAINED = "none of the known faults"


def describe_failure(variant: str, where: str, results: Sequence[InputVerdict]) -> str:
    """Say what failed, in full for the first input that did; fewer than forty lines, none longer than a terminal.

    Of what is close, which is the same model, where it is not exact.
    """
    is_failed = any(result.verdict is Verdict.FAILED for result in results)
    said = "nothing can be concluded" if has_overflowed(results) else "not the same model"
    lines = [f"{variant} ({where}): {said if is_failed else 'the same model, rounded otherwise'}."]
    is_first = True
    for result in results:
        failed = [point for point in result.points if point.verdict is Verdict.FAILED]
        if result.verdict is not Verdict.FAILED or not failed:
            lines.append(f"  {result.name}: {result.verdict}{'' if is_failed else _locate_close(result)}")
            continue
        count = f"{len(failed)} of {len(result.points)} capture points"
        lines.append(f"  {result.name}: failed at {count}, first at {failed[0].point}")
        if is_first:
            found = _describe_point(failed[0], result.evidence) if result.evidence else [failed[0].reason]
            lines += [f"    {line}" for line in (*found, *_describe_returned(result))]
            is_first = False
    names = {name: None for result in results if is_failed for name in split_names(result.deviation)}
    if names:
        lines.append(f"  What transformers does otherwise was allowed for: {', '.join(names)}.")
    return "\n".join(lines)


def has_overflowed(results: Sequence[InputVerdict]) -> bool:
    """Whether, where an input first fails, the original itself has no numbers."""
    failed = [next((point for point in each.points if point.verdict is Verdict.FAILED), None) for each in results]
    return any(point is not None and point.reason == OVERFLOW for point in failed)


def _describe_returned(result: InputVerdict) -> list[str]:
    """How far off what the model returns is on an input, beside the original's values."""
    failed = [each for each in result.points if each.verdict is Verdict.FAILED and each.point.startswith(RETURNED)]
    off = find_largest(Off.of(each.difference, each.scale.rms) for each in failed if each.difference and each.scale)
    return [f"returned   off by {format_off(off)}"] if off else []


def _locate_close(result: InputVerdict) -> str:
    """Where an input that has not failed is not exact."""
    close = [point.point for point in result.points if point.verdict is Verdict.CLOSE]
    return f", not exact at {len(close)} of {len(result.points)} capture points, first at {close[0]}" if close else ""


def _describe_point(point: PointVerdict, evidence: Evidence) -> list[str]:
    keys = evidence.run.model.state_dict()
    sources = [source for source in evidence.point.sources if fnmatch.filter(keys, source)]
    lines = [point.reason, f"fed by     {', '.join(sources) or INPUT}"]
    if point.difference is None:
        return lines
    rows: list[tuple[str, Distance, str]] = [("difference", point.difference, "converted against original")]
    if point.local:
        rows.append(("local", point.local, "the same, fed what the original has before"))
    if point.original_error and point.converted_error and point.allowed:
        rows.append(("error", point.converted_error, "of the converted, held against float64"))
        rows.append(("original", point.original_error, "the original's own, held against float64"))
        if point.scatter:
            rows.append(("scatter", point.scatter, "its largest with other roundings"))
        rows.append(("allowed", point.allowed, "the most that is close"))
    lines.append(f"{'':10} {'max abs':>10} {'RMS':>10}")
    lines += [f"{name:10} {size.max_abs:10.3g} {size.rms:10.3g}  {of}" for name, size, of in rows]
    if evidence.local is None or evidence.point.name not in evidence.local:
        return [*lines, "arose      here or before: this stage cannot be run by itself"]
    if not arose_here(evidence):
        return [*lines, "arose      before: by itself, fed what the original has there, this stage agrees"]
    found = find_explanation(evidence) or UNEXPLAINED if sources else "another input: no weight has a part in it"
    return [*lines, "arose      here", f"explained  by {found}"]


def read_explanation(message: str) -> str:
    """The known fault that a failure's description names; empty where it names none."""
    found = re.search(r"^ *explained  by (.+)$", message, re.MULTILINE)
    return found[1] if found and found[1] != UNEXPLAINED else ""


def drop_unexplained(message: str) -> str:
    """A failure's description without the line that says that no known fault explains it."""
    return "\n".join(line for line in message.splitlines() if not line.endswith(UNEXPLAINED))


def arose_here(evidence: Evidence) -> bool:
    """Whether the stage that failed, which can be run by itself, fails by itself, too, fed the original's input."""
    return not _agrees(evidence, evidence.run.model, evidence.expected.values, [evidence.point.name])


def find_explanation(evidence: Evidence) -> str | None:
    """The name of a known fault that, put into the original, makes it compute what the converted model does.

    It must reproduce every capture point of the stage; None where none does.
    """
    for hypothesis in list_hypotheses(evidence):
        model = copy_structure(evidence.run.model)
        hypothesis.inject(model)
        try:
            values = _compute(evidence, model, evidence.run.dtype)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # a head count that goes with no table of relative positions, say
            continue
        if _is_near(evidence, values) and _agrees(evidence, model, values, list(values)):
            return hypothesis.name
    return None


@torch.inference_mode()
def _compute(evidence: Evidence, model: nn.Module, dtype: torch.dtype) -> Mapping[str, Tensor]:
    """What the original, or one with a fault, computes in the stage."""
    run = evidence.run
    if evidence.expected.arguments:
        return run_stage(model, evidence.stage, "original", evidence.expected.arguments, dtype)
    inputs = run.inputs.to("cpu", run.dtype)
    with closing(ForwardPass(model, run.stages, "original", inputs, dtype)) as forward:
        return forward.read(evidence.stage).values


def _is_near(evidence: Evidence, values: Mapping[str, Tensor]) -> bool:
    """Whether an original with a fault comes so near that it is worth the yardstick."""
    name = evidence.point.name
    if evidence.local is None or name not in values or values[name].shape != evidence.local[name].shape:
        return False
    without = error_of(evidence.local[name], evidence.expected.values[name])
    return error_of(evidence.local[name], values[name]).rms <= REDUCTION * without.rms


def _agrees(evidence: Evidence, model: nn.Module, values: Mapping[str, Tensor], names: Sequence[str]) -> bool:
    """Whether what the converted model computes locally is, up to rounding, what this original does."""
    if evidence.local is None or any(name not in evidence.local for name in names):
        return False
    precise = _compute(evidence, model, evidence.run.other_dtype)
    yardsticks = {name: partial(evidence.run.build_yardstick, values[name], precise[name]) for name in names}
    verdicts = [judge(name, values[name], evidence.local[name], yardsticks[name]).verdict for name in names]
    return Verdict.FAILED not in verdicts
