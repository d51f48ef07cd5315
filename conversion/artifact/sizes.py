"""At which image sizes a converted model is identical to its original, and how far off it is elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.families.base import Family
from conversion.parity.deviations import Deviation, split_names
from conversion.parity.metrics import Distance
from conversion.parity.off import RETURNED, Off, find_largest, format_off

Record = Mapping[str, Any]
"""Part of a card."""


@dataclass(frozen=True)
class Sizes:
    """At which image sizes the model is identical to the original.

    Attributes:
        identical: sides of square images, in pixels: of the native size and the processor's, those that are.
        processor: shorter side of the images that its processor makes.
        shape: height and width of these; of one of 4 by 3, where it keeps the aspect ratio.
        off_by: how far off what it returns is there, if that is not identical; None where it was not measured.
        is_identical: whether the model is identical there.
        is_baked: whether its position embeddings are baked for the first of these.
    """

    identical: tuple[int, ...]
    processor: int
    shape: tuple[int, int]
    off_by: Off | None
    is_identical: bool
    is_baked: bool = False

    @property
    def is_square(self) -> bool:
        """Whether its processor makes square images."""
        return self.shape[0] == self.shape[1]

    @property
    def place(self) -> str:
        """What its processor makes, as ``height x width``."""
        return " x ".join(map(str, self.shape))


def measure_returned(result: Record) -> Off | None:
    """How far off what the model returns is on an input of a card; None where every bit agrees."""
    sizes: Mapping[str, Sequence[float]] = result.get("otherwise", {})
    return find_largest(_read_off(*figures) for name, figures in sizes.items() if name.startswith(RETURNED))


def _read_off(largest: float, rms: float, scale: float | None = None) -> Off:
    return Off.of(Distance(largest, rms), scale)


def find_sizes(family: Family[Any], spec: Any, size: int, cells: Iterable[Record], *, is_baked: bool = False) -> Sizes:
    """At which sizes a model is identical.

    Args:
        size: side of the images that its processor makes.
        is_baked: whether its position embeddings are baked for that size.
    """
    shape = spec.shape_input(size)
    is_identical = _find_at(family, spec, shape) is None
    off = None if is_identical else _find_off(family, shape, cells)
    return Sizes(list_identical_sizes(family, spec, size), size, shape, off, is_identical, is_baked)


def _find_off(family: Family[Any], shape: tuple[int, int], cells: Iterable[Record]) -> Off | None:
    """How far off what the model returns is on an image of this shape, by the model alone; None if none was tried."""
    of_models = {entry.name for entry in family.ledger if entry.original_attributes}
    found = [
        measure_returned(result)
        for cell in cells
        for result in cell["inputs"]
        if result["shape"][-2:] == list(shape) and not result["baked_twin"] and not result["masked"]
        if set(split_names(result["deviation"])) <= of_models
    ]
    return find_largest(found)


def list_identical_sizes(family: Family[Any], spec: Any, size: int) -> tuple[int, ...]:
    """Of the sizes that concern its user (native, and what the processor makes), those without a deviation."""
    sizes = dict.fromkeys((spec.image_size, size))
    return tuple(size for size in sizes if _find_at(family, spec, (size, size)) is None)


def names_at(family: Family[Any], spec: Any, shape: tuple[int, int]) -> set[str]:
    """Names of the ledger's entries that apply to a model at an image's height and width."""
    found = _find_at(family, spec, shape)
    return set(split_names(found.name)) if found else set()


def _find_at(family: Family[Any], spec: Any, shape: tuple[int, int]) -> Deviation | None:
    return family.find_deviation(spec, (1, 3, *shape), "float32", family.choose_attention())


def describe_sizes(sizes: Sizes) -> str:
    """At which sizes it is identical, and the way to be so at the processor's; empty where there is nothing to say."""
    if not sizes.identical or sizes.is_identical:
        return ""
    identical = " and ".join(f"{each} x {each}" for each in sizes.identical)
    off = f", where what the model returns is off by {format_off(sizes.off_by)}" if sizes.off_by else ""
    of = "" if sizes.is_square else " of a photo of 4 by 3"
    lines = "use the lines of docs/ledger.md"  # which resample the original's embeddings, not baked ones
    of_photos = f"convert without --image-size and {lines}" if sizes.is_baked else lines
    way = f"convert with --image-size {sizes.processor}" if sizes.is_square else of_photos
    return (
        f"Only {identical} pixels are identical. The image processor makes {sizes.place}{of}{off}. "
        f"To be identical there, {way}."
    )
