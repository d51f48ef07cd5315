"""How far off what a model returns is, in figures that a user understands."""

from collections.abc import Iterable
from dataclasses import dataclass

from conversion.parity.metrics import Distance

RETURNED = "returned."
"""How the names of what a model returns begin, among the capture points."""


@dataclass(frozen=True)
class Off:
    """How far off what a model returns is, at most.

    Attributes:
        max_abs: of a single value.
        relative_rms: root mean square of the difference, as a part of the original's own; None on a card that does
            not tell.
    """

    max_abs: float
    relative_rms: float | None

    @classmethod
    def of(cls, distance: Distance, scale: float | None) -> "Off":
        """A distance, beside the root mean square of the original's values."""
        return cls(distance.max_abs, distance.rms / scale if scale else None)


def find_largest(found: Iterable[Off | None]) -> Off | None:
    """The largest of each figure; None of none."""
    some = [off for off in found if off]
    shares = [off.relative_rms for off in some if off.relative_rms is not None]
    return Off(max(off.max_abs for off in some), max(shares, default=None)) if some else None


def format_off(off: Off) -> str:
    """How far off, in a few words: on the whole, beside the original's values; and the worst single value."""
    if off.relative_rms is None:
        return f"up to {off.max_abs:.2g}"
    return f"{format_share(off.relative_rms)} (a single value by up to {off.max_abs:.2g})"


def format_share(share: float) -> str:
    """A part of a whole in per cent, to two digits."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
