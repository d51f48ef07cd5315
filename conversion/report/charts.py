"""Error along the depth, as coordinates of a drawing."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from conversion.parity.metrics import Distance
from conversion.parity.verdict import PointVerdict, Verdict

WIDTH, HEIGHT = 420, 200
LEFT, TOP, BOTTOM = 48, 20, 38
"""Margins, for what stands at the axes."""
LANE = 20
"""Height of the lane below the scale, where exact points lie: their logarithm is nowhere else."""
MOST_LABELS = 12
"""Along the depth."""

# line, later ones above earlier ones, to the figure of a point whose RMS it shows
LINES = {"local": "local", "converted": "converted_error", "original": "original_error"}

LINE_NAMES = {
    "converted": "converted against float64",
    "original": "original against float64",
    "local": "converted against original, this stage alone",
    "otherwise": "converted against original, with what transformers does otherwise",
}
"""What each line shows, in words."""


@dataclass(frozen=True)
class Chart:
    """A drawing, ``WIDTH`` x ``HEIGHT``.

    Attributes:
        band: outline of what is close: from zero up to the largest error that is allowed.
        lines: name to the parts of a line, each as SVG's points.
        exact: where the points lie that are exact.
        failed: where those lie that failed, whatever their RMS: their largest error may have, or they have no figures.
        rows: heights of the powers of ten, and these.
        columns: places along the depth, and what is there.
    """

    band: tuple[str, ...]
    lines: Mapping[str, tuple[str, ...]]
    exact: tuple[float, ...]
    failed: tuple[float, ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]


def draw_errors(points: Sequence[PointVerdict], otherwise: Mapping[str, float]) -> Chart | None:
    """Draw the RMS errors of the capture points of one input; None where there is no error to be drawn.

    Args:
        otherwise: capture point to the RMS of its difference with a known deviation in force, where one applies.
    """
    series = {"otherwise": [_drawable(otherwise.get(point.point, 0.0)) for point in points]}
    series |= {name: [_rms(getattr(point, figure)) for point in points] for name, figure in LINES.items()}
    allowed = [_rms(point.allowed) for point in points]
    sizes = [size for line in [*series.values(), allowed] for size in line if size]
    if not sizes:
        return None
    low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    high = max(high, low + 1)
    floor = HEIGHT - BOTTOM - LANE

    def along(index: int) -> float:
        return round(LEFT + (WIDTH - LEFT - 8) * (index + 0.5) / len(points), 1)

    def up(size: float) -> float:
        return round(floor - (floor - TOP) * (math.log10(size) - low) / (high - low), 1)

    tops = _join_up(allowed, along, up)
    labels = _label_depth([point.point for point in points])
    return Chart(
        band=tuple(f"{part.split(',')[0]},{floor} {part} {part.split()[-1].split(',')[0]},{floor}" for part in tops),
        lines={name: parts for name, line in series.items() if (parts := _join_up(line, along, up))},
        exact=tuple(along(index) for index, point in enumerate(points) if point.verdict is Verdict.EXACT),
        failed=tuple(along(index) for index, point in enumerate(points) if point.verdict is Verdict.FAILED),
        rows=tuple((up(10.0**power), f"1e{power}") for power in range(low, high + 1, 1 + (high - low) // 8)),
        columns=tuple((along(index), label) for index, label in labels),
    )


def _rms(size: Distance | None) -> float:
    """Zero where it was not measured, or is nothing that can be drawn."""
    return _drawable(size.rms) if size else 0.0


def _drawable(size: float) -> float:
    return size if math.isfinite(size) else 0.0


def _join_up(line: Sequence[float], along: Callable[[int], float], up: Callable[[float], float]) -> tuple[str, ...]:
    """The parts of a line, broken where there is no value."""
    parts = (list(part) for there, part in groupby(enumerate(line), key=lambda each: bool(each[1])) if there)
    return tuple(" ".join(f"{along(index)},{up(size)}" for index, size in part) for part in parts)


def _label_depth(names: Iterable[str]) -> list[tuple[int, str]]:
    """Some of the blocks, where each begins."""
    starts: dict[str, int] = {}
    for index, name in enumerate(names):
        if found := re.match(r"block\.(\d+)", name):
            starts.setdefault(found[1], index)
    step = -(-len(starts) // MOST_LABELS) or 1
    return [(index, label) for label, index in starts.items()][::step]
