"""What a report says first of a model: the two answers, in a sentence each, and the fix; of a failure, its cause."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.artifact.answer import Answer, Judged, Otherwise, build_answer, describe_judged
from conversion.artifact.card import list_cells
from conversion.artifact.card_points import read_points
from conversion.artifact.sizes import describe_sizes
from conversion.artifact.usage import write_usage
from conversion.parity.diagnosis import read_explanation
from conversion.parity.off import format_off
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.report.matrix import Model
from conversion.report.records import LOST_EXACTNESS, RANDOM, Result, read_error
from conversion.report.tables import format_size

MOST_PLACES = 3
"""Cells that are named in a sentence; of more, their number is told."""

WHAT = {
    Verdict.EXACT: "every bit agrees",
    Verdict.LOSSY: "less precise",
    Verdict.FAILED: "it computes something else",
}


@dataclass(frozen=True)
class Headlines:
    """What is said of a model.

    Attributes:
        answer: of all its cells; None where nothing was compared.
        conversion: the first answer, in a sentence.
        otherwise: the second, in short.
        fix: what to do.
        usage: lines of Python that load it; none of a model that failed.
        cause: why it failed, in a line; empty where it did not.
        refused: why an export is not what was asked for, where nothing else failed; else empty.
        place: where it first differs, and by how much; empty where it did not fail, or nothing was compared.
        remark: what else is to be known first.
        is_random: whether its weights were drawn.
    """

    answer: Answer | None
    conversion: str
    otherwise: str
    fix: str
    usage: tuple[str, ...]
    cause: str
    refused: str
    place: str
    remark: str
    is_random: bool

    @property
    def claim(self) -> str:
        """What it is the same as, and where, if it failed nowhere."""
        return self.answer.claim if self.answer else "the same model"


def write_headlines(model: Model) -> Headlines:
    """What is said of a model, in short."""
    card = join_cells(model)
    answer = build_answer(card) if card else None
    failed = [result for result in model.results.values() if result.verdict is Verdict.FAILED]
    exports = [result for result in failed if result.is_export]
    is_refused = bool(exports) and exports == failed and bool(answer and answer.conversion)
    return Headlines(
        answer=answer,
        conversion=_answer_first(answer, is_failed=failed != exports),
        otherwise=describe_otherwise(answer.otherwise, answer.sizes.place) if answer else "",
        fix=describe_fix(answer) if answer and not failed else "",
        usage=tuple(write_usage(card, f"path/to/{model.variant}")) if card and not failed else (),
        cause=describe_cause(failed),
        refused=describe_refusal(exports[0]) if is_refused else "",
        place=next(filter(None, map(locate_failure, failed)), ""),
        remark=next(filter(None, map(describe_remark, model.results.values())), ""),
        is_random=model.origin.startswith(RANDOM) if card is None else card["source"]["weights"] == "synthetic",
    )


def _answer_first(answer: Answer | None, *, is_failed: bool) -> str:
    """The first answer, with what it rests on."""
    if answer is None or not answer.conversion:
        return "Nothing was compared."
    condition = "" if is_failed else answer.condition
    return " ".join(filter(None, [describe_conversion(answer.conversion), condition]))


def join_cells(model: Model) -> Mapping[str, Any] | None:
    """A model's card, of all its cells; None where nothing was compared."""
    cells = [cell for result in model.results.values() if result.card for cell in list_cells(result.card)]
    compared, exports = ([cell for cell in cells if ("exported" in cell) is is_export] for is_export in (False, True))
    return {**model.card, "activations": compared, "exports": exports} if model.card else None


def describe_conversion(cells: Sequence[Judged]) -> str:
    """The first answer: what the comparison came to in all cells of a model."""
    if len(cells) == 1:
        return f"{describe_judged(cells[0])}."
    groups = [[cell for cell in cells if cell.verdict is verdict] for verdict in Verdict]
    parts = {_describe_group(group, cells): _describe_compared(group) for group in groups if group}
    if len(set(parts.values())) == 1:
        return f"{'; '.join(parts)}{next(iter(parts.values()))}."
    return f"{'; '.join(part + compared for part, compared in parts.items())}."


def _describe_compared(group: Sequence[Judged]) -> str:
    """How much was compared in each of these cells; empty where that differs."""
    found = {f" ({cell.compared})" for cell in group}
    return found.pop() if len(found) == 1 else ""


def _describe_group(group: Sequence[Judged], cells: Sequence[Judged]) -> str:
    verdict, ratio = group[0].verdict, max(cell.error_ratio for cell in group)
    what = WHAT.get(verdict) or f"rounding alone, at most {ratio:.2f} x the original's own error"
    return f"{verdict} {_name_places(group, cells)}: {what}"


def _name_places(group: Sequence[Judged], cells: Sequence[Judged]) -> str:
    """Where some of the cells are: by attention alone, if nothing else tells them from the others."""
    is_one_place = len({(cell.device, cell.dtype) for cell in cells}) == 1
    names = dict.fromkeys(
        cell.attention if is_one_place else f"{cell.device} {cell.dtype} {cell.attention}" for cell in group
    )
    if len(names) > MOST_PLACES:
        return f"in {len(group)} of {len(cells)} cells"
    return f"with {' and '.join(names)}"


def describe_otherwise(otherwise: Iterable[Otherwise], processor: str) -> str:
    """The second answer: what transformers does otherwise, by name, and how far off the model is.

    Args:
        processor: ``height x width`` of the images that its image processor makes, of which that is said; of the worst
            input where it was not compared there.
    """
    return "; ".join(_describe_entry(each, processor) for each in otherwise) or "nothing"


def _describe_entry(each: Otherwise, usual: str) -> str:
    if not each.sizes:
        return each.name
    worst = max(each.sizes, key=lambda place: each.sizes[place].max_abs)
    place = usual if usual in each.sizes else worst
    return f"{each.name}, off by {format_off(each.sizes[place])} at {place}"


def describe_fix(answer: Answer) -> str:
    """What a user is to do about it: of the image size, if that is not identical; else what the entries say."""
    remedies = dict.fromkeys(each.remedy for each in answer.otherwise)
    return describe_sizes(answer.sizes) or "".join(f"{remedy[0].upper()}{remedy[1:]}. " for remedy in remedies).strip()


def describe_cause(failed: Sequence[Result]) -> str:
    """Why a model failed: the known fault that explains it, or where it first differs, or what went wrong."""
    ways = (lambda result: read_explanation(result.message), locate_failure, lambda result: read_error(result.message))
    return next((cause for find in ways for result in failed if (cause := find(result))), "")


def describe_refusal(result: Result) -> str:
    """Why an export is not what was asked for: the cause of its failure, or the bounds that it does not keep."""
    if result.card is None or any(cell["verdict"] == Verdict.FAILED for cell in list_cells(result.card)):
        return describe_cause([result])
    _, *bounds = result.message.splitlines()  # behind its figures
    return " ".join(bounds)


def locate_failure(result: Result) -> str:
    """Where a result first differs, and by how much; empty where no capture point failed."""
    return next((_describe_place(*place) for place in _list_failed(result)), "")


def _list_failed(result: Result) -> Iterator[tuple[str, PointVerdict]]:
    for each in result.inputs:
        for point in read_points(each["points"], result.dtype):
            if point.verdict is Verdict.FAILED:
                yield each["input"], point


def _describe_place(name: str, point: PointVerdict) -> str:
    size = point.difference.max_abs if point.difference else None
    off = point.reason if size is None else f"off by up to {format_size(size)}"
    return f"first differs at {point.point}, input {name}: {off}"


def describe_remark(result: Result) -> str:
    """That a model was exact before and is close now, which is the same model."""
    return read_error(result.message) if result.message.startswith(LOST_EXACTNESS) else ""
