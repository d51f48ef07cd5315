"""What an export has to keep, in figures that are common for models that lose precision."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conversion.parity.verdict import PointVerdict
    from conversion.parity.verify import InputVerdict

RATIO = "ratio"
MEASURES = ("cosine", "top1", RATIO)
"""The smallest cosine of what is returned for an image; the part of equal decisions; the largest error ratio."""


@dataclass(frozen=True)
class Bound:
    """A figure that an export has to keep; one of :data:`MEASURES`."""

    measure: str
    value: float

    @property
    def text(self) -> str:
        """As its user gave it."""
        return f"{self.measure}={self.value:g}"


def parse_bound(text: str) -> Bound:
    """Read ``cosine=0.99``.

    Raises:
        ValueError: there is no such measure, or it has no such value.
    """
    measure, equals, value = text.partition("=")
    if measure not in MEASURES or not equals:
        raise ValueError(f"{text!r} is not one of {', '.join(f'{name}=N' for name in MEASURES)}")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{text!r}: {value!r} is not a number") from None
    if measure == RATIO and not 1 <= number < math.inf:
        raise ValueError(f"{text!r}: an error ratio is a number from 1 on")
    if measure != RATIO and not 0 <= number <= 1:
        raise ValueError(f"{text!r}: must lie between 0 and 1")
    return Bound(measure, number)


def measure_loss(
    results: Iterable["InputVerdict"], pictures: Mapping[str, Any] | None = None
) -> dict[str, float | None]:
    """The worst of each measure; of cosines and decisions, those of what the model returns.

    They are 1 where nothing differs. Nothing is measured of decisions where there are none.

    Args:
        pictures: what was measured on a user's own, as a card has it: these decide then, not noise.
    """
    results = list(results)
    likeness = [each for result in results for each in result.likeness.values()]
    cosines, tops = [each.cosine for each in likeness], [each.top for each in likeness if each.top is not None]
    if pictures:
        measured = list(pictures["likeness"].values())
        cosines, tops = [each[0] for each in measured], [each[1] for each in measured if len(each) > 1]
    return {
        "cosine": min(cosines, default=1.0),
        "top1": min(tops, default=None),
        RATIO: max((result.error_ratio for result in results), default=1.0),
    }


def find_exceeded(measured: Mapping[str, float | None], bounds: Iterable[Bound]) -> Iterator[str]:
    """The bounds that are not kept, each with what was measured."""
    for bound in bounds:
        found = measured[bound.measure]
        if found is None:
            yield f"--require {bound.text}: this model has no classes"
        elif not (found <= bound.value if bound.measure == RATIO else found >= bound.value):  # a NaN is neither
            yield f"--require {bound.text}: it is {found:.6g}"


def find_largest_loss(inputs: Iterable[Sequence["PointVerdict"]]) -> str:
    """The capture point at which the error, as a part of the values there, grows most beyond the point before it.

    Args:
        inputs: the points of each, in the order of the computation.
    """
    growth: dict[str, float] = {}
    for points in inputs:
        before = 0.0
        for point in points:
            if point.converted_error and point.scale and point.scale.rms:
                share = point.converted_error.rms / point.scale.rms
                growth[point.point] = max(growth.get(point.point, 0.0), share - before)
                before = share
    return max(growth, key=lambda name: growth[name], default="")
