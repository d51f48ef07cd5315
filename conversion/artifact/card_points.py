"""Capture points as a verification card has them: an exact one by its name alone, any other as a row of figures."""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, replace
from typing import Any

import torch

from conversion.parity.metrics import NO_DIFFERENCE, Distance
from conversion.parity.verdict import PointVerdict, Verdict, allow, judge_again

DIGITS = 6
"""Significant ones that a figure is recorded with, unless its verdict needs more."""

DISTANCES = ("difference", "local", "original_error", "converted_error", "scale", "scatter")
"""Of :class:`~conversion.parity.verdict.PointVerdict`, those recorded; what is allowed follows from them."""

COLUMNS = (
    "point",
    "verdict",
    *(f"{name}.{kind}" for name in DISTANCES for kind in ("max_abs", "rms")),
    "elements",
    "reason",
)
"""What stands in a row, in this order; empty columns at the end are left out."""

Row = str | list[Any]


def record_points(points: Iterable[PointVerdict]) -> list[Row]:
    """The rows of capture points."""
    return [_record_point(point) for point in points]


def record_distances(sizes: Mapping[str, Distance]) -> dict[str, list[float]]:
    """Capture point to ``[max_abs, rms]``; of what the model returns, with the original's own RMS if it is known."""
    return {point: [_round(figure) for figure in astuple(size)] for point, size in sizes.items()}


def read_points(rows: Iterable[Row], dtype: str) -> list[PointVerdict]:
    """The verdicts that rows record; what is allowed is reckoned again.

    Args:
        dtype: of the comparison.
    """
    return [_read_point(row, eps_of(dtype)) for row in rows]


def round_point(point: PointVerdict, dtype: str) -> PointVerdict:
    """The same with figures rounded, unless they would come to another verdict then."""
    sizes = {name: size for name in DISTANCES if (size := getattr(point, name))}
    figures: dict[str, Any] = {name: Distance(_round(size.max_abs), _round(size.rms)) for name, size in sizes.items()}
    rounded = replace(point, **figures)
    return rounded if judge_again(rounded, eps_of(dtype)) is judge_again(point, eps_of(dtype)) else point


def eps_of(dtype: str) -> float:
    """The distance from 1 to the next number of a dtype."""
    return torch.finfo(getattr(torch, dtype)).eps


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _record_point(point: PointVerdict) -> Row:
    if point.verdict is Verdict.EXACT:
        return point.point
    sizes = [getattr(point, name) for name in DISTANCES]
    figures = [value for size in sizes for value in ((size.max_abs, size.rms) if size else (None, None))]
    row: list[Any] = [point.point, str(point.verdict), *figures, point.elements, point.reason or None]
    while row[-1] is None:
        row.pop()
    return row


def _read_point(row: Row, eps: float) -> PointVerdict:
    if isinstance(row, str):
        return PointVerdict(row, Verdict.EXACT, NO_DIFFERENCE)
    said = dict(zip(COLUMNS, row, strict=False))
    sizes: dict[str, Any] = {name: _read_distance(said, name) for name in DISTANCES}
    others: dict[str, Any] = {"elements": said.get("elements"), "reason": said.get("reason") or ""}
    point = PointVerdict(said["point"], Verdict(said["verdict"]), **sizes, **others)
    own = point.scatter or point.original_error
    if own and point.scale and point.elements:
        point = replace(point, allowed=allow(own, point.scale, point.elements, eps))
    return point


def _read_distance(said: Mapping[str, Any], name: str) -> Distance | None:
    largest, rms = said.get(f"{name}.max_abs"), said.get(f"{name}.rms")
    return None if largest is None or rms is None else Distance(float(largest), float(rms))
