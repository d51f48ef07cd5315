"""How far off what a model returns is, where transformers computes something else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.artifact.card_points import RETURNED


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


def measure_returned(result: Mapping[str, Any]) -> Off | None:
    """How far off what the model returns is on an input of a card; None where every bit agrees."""
    sizes: Mapping[str, Sequence[float]] = result.get("otherwise", {})
    return find_largest(_read_off(*figures) for name, figures in sizes.items() if name.startswith(RETURNED))


def _read_off(largest: float, rms: float, scale: float | None = None) -> Off:
    return Off(largest, rms / scale if scale else None)


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
