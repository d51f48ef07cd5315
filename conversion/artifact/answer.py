"""The two answers of a verification card: is it the same model, and what does transformers do otherwise?

Whoever reads them reads the same: at a terminal, in a model card, in a report, as JSON.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.artifact.card_points import read_points
from conversion.artifact.reading import rebuild_spec
from conversion.artifact.rounded import find_rounding
from conversion.artifact.sizes import Record, Sizes, find_sizes, measure_returned, names_at
from conversion.exports.bounds import find_largest_loss
from conversion.families.base import Family, load_family
from conversion.families.told import Told, describe_condition, describe_told
from conversion.parity.deviations import split_names
from conversion.parity.off import Off, find_largest, format_share
from conversion.parity.verdict import OVERFLOW, Verdict, rank, worst

# task: pipeline on the Hub, class that loads a model of it; none where transformers has no such class for all models
TASKS = {
    "backbone":              ("image-feature-extraction", "AutoModel"),
    "feature-backbone":      ("image-feature-extraction", ""),  # AutoBackbone asks the Hub of a folder, too
    "masked-image-modeling": ("image-feature-extraction", ""),
    "image-classification":  ("image-classification",     "AutoModelForImageClassification"),
    "semantic-segmentation": ("image-segmentation",       "AutoModelForSemanticSegmentation"),
    "depth-estimation":      ("depth-estimation",         "AutoModelForDepthEstimation"),
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """The conversion, by one cell of the matrix.

    Attributes:
        verdict: exact, close, lossy or failed.
        inputs, points: how many were compared.
        error_ratio: the largest error, as a multiple of the original's own; 1 where exact.
        failing: names of the inputs on which it failed.
        cause: why nothing can be concluded of those; empty where it computes something else.
        loss: how alike what a lossy export returns is, and where most of the loss arises, in words.
    """

    attention: str
    device: str
    dtype: str
    verdict: Verdict
    inputs: int
    points: int
    error_ratio: float
    failing: tuple[str, ...] = ()
    cause: str = ""
    loss: str = ""

    @property
    def compared(self) -> str:
        """How much was compared, in words."""
        return f"{self.points} points on {self.inputs} input{'s' if self.inputs > 1 else ''}"


@dataclass(frozen=True)
class Otherwise:
    """Something that transformers computes otherwise than the original, with any weights.

    Attributes:
        size: how much it usually is, in words.
        sizes: ``height x width`` of an image to how far what this model returns is off there, at most; empty where
            that was not measured.
    """

    name: str
    where: str
    cause: str
    remedy: str
    size: str
    sizes: Mapping[str, Off]


@dataclass(frozen=True)
class Answer:
    """What a conversion came to.

    Attributes:
        variant: official name, or the family's and ``_custom``.
        is_synthetic: the weights were drawn: the model has learned nothing.
        conversion: in each cell of the matrix; none where activations were not compared.
        exports: what the model was exported to, each judged like such a cell.
        otherwise: what transformers does otherwise.
        told: settings that no tensor tells, and on whose word they are taken.
        rounded: what the weights were rounded to when they were read, in words; empty where they are the file's.
        baked: side in pixels of the only images that the model is made for; None where positions are the original's.
        condition: under which the verdict holds, since nobody but the caller has told it; empty where there is none.
        notes: what else its user must know.
    """

    variant: str
    is_synthetic: bool
    conversion: tuple[Judged, ...]
    otherwise: tuple[Otherwise, ...]
    sizes: Sizes
    told: tuple[str, ...]
    condition: str
    rounded: str
    baked: int | None
    notes: tuple[str, ...]
    exports: tuple[Judged, ...] = ()

    @property
    def claim(self) -> str:
        """What a model is that failed nowhere: the same as which, and where; the verb is left to the reader."""
        same = "the same model as the rounded checkpoint" if self.rounded else "the same model"
        return same + (f" at {self.baked} x {self.baked} pixels, which it was baked for" if self.baked else "")

    @property
    def verdict(self) -> Verdict | None:
        """The worst of the cells'; None where nothing was compared."""
        return worst([judged.verdict for judged in self.conversion]) if self.conversion else None


def build_answer(card: Record, caller: str = "whoever converted it") -> Answer:
    """What a card says, in short.

    Args:
        caller: how the reader knows the one who converted it.
    """
    family, spec = load_family(card["family"]), rebuild_spec(card)
    size = card["baked_image_size"] or family.images.choose_input_size(spec)
    rounded, _ = find_rounding(card)
    # what the converted model returns is nothing that the original has otherwise
    own = {name: each for name, each in card.get("told", {}).items() if name not in family.returned}
    told = {name: Told(each["value"], each["by"]) for name, each in own.items()}
    return Answer(
        variant=card["variant"],
        is_synthetic=card["source"]["weights"] == "synthetic",
        conversion=tuple(map(describe_cell, card["activations"])),
        otherwise=tuple(list_otherwise(family, spec, size, card["activations"], baked=card["baked_image_size"])),
        sizes=find_sizes(family, spec, size, card["activations"], is_baked=bool(card["baked_image_size"])),
        told=tuple(describe_told(told, caller)),
        condition=describe_condition(told, caller),
        rounded=rounded,
        baked=card["baked_image_size"],
        notes=(*card["notes"], *_note_rounding(rounded)),
        exports=tuple(map(describe_cell, card.get("exports", ()))),
    )


def _note_rounding(rounded: str) -> list[str]:
    """That the weights are not those of the file, where they were rounded when it was read."""
    if not rounded:
        return []
    return [f"the weights are not the file's: {rounded}; both models were compared with the rounded ones"]


def describe_cell(cell: Record) -> Judged:
    """What a cell came to."""
    failing = [result for result in cell["inputs"] if result["verdict"] == Verdict.FAILED]
    points = (point for result in failing for point in read_points(result["points"], cell["dtype"]))
    failed = next((point for point in points if point.verdict is Verdict.FAILED), None)
    return Judged(
        attention=cell["attention"],
        device=cell["device"],
        dtype=cell["dtype"],
        verdict=Verdict(cell["verdict"]),
        inputs=len(cell["inputs"]),
        points=sum(len(result["points"]) for result in cell["inputs"]),
        error_ratio=max(result["error_ratio"] for result in cell["inputs"]),
        failing=tuple(result["input"] for result in failing),
        cause=OVERFLOW if failed and failed.reason == OVERFLOW else "",
        loss=_describe_loss(cell),
    )


def _describe_loss(cell: Record) -> str:
    """The worst of the common figures, over all that a lossy export returns, and where most of the loss arises."""
    found = [figures for result in cell["inputs"] for figures in result.get("likeness", {}).values()]
    if not found:
        return ""
    inputs = [read_points(result["points"], cell["dtype"]) for result in cell["inputs"]]
    place, worst_point = find_largest_loss(inputs), max((point for points in inputs for point in points), key=rank)
    return (
        f"at {worst_point.point} its {worst_point.reason}; {_describe_likeness(found)}; most of it arises in {place}"
        + _describe_pictures(cell["exported"].get("pictures"))
    )


def _describe_pictures(pictures: Record | None) -> str:
    if pictures is None:
        return ""
    count = "1 picture" if pictures["count"] == 1 else f"{pictures['count']} pictures"
    return f"; on {count} {_describe_likeness(pictures['likeness'].values())}"


def _describe_likeness(found: Collection[Sequence[float]]) -> str:
    """The smallest cosine, and, where something is decided, the smallest part of equal decisions."""
    decisions = [figures[1] for figures in found if len(figures) > 1]
    equal = f", equal decisions {100 * min(decisions):.1f} %" if decisions else ""
    return f"cosine {min(figures[0] for figures in found):.6f}{equal}"


def list_otherwise(
    family: Family[Any], spec: Any, size: int, cells: Sequence[Record], *, baked: int | None = None
) -> Iterator[Otherwise]:
    """List the entries of the ledger that showed, with how far off what this model returns is; and those of images.

    What an image processor does otherwise depends on the image: it is listed whether it showed or not. Where nothing
    was compared, whatever applies at some size is listed.

    Args:
        size: side of the images that its processor makes.
        baked: the only size that it is to be used at, if it was made for one.
    """
    results = [result for cell in cells for result in cell["inputs"]]
    named = [split_names(result["deviation"]) for result in results]
    alone = {names[0] for names in named if len(names) == 1}
    rounding = {entry.name for entry in family.ledger if entry.is_rounding}
    sizes: dict[str, dict[str, Off]] = {}
    for result, names in zip(results, named, strict=True):
        for name in names:
            if len(names) > 1 and name in alone | rounding:
                continue  # of several together it is unknown how much each adds; its own size shows where it is alone
            of_entry, place = sizes.setdefault(name, {}), " x ".join(map(str, result["shape"][-2:]))
            if largest := find_largest([measure_returned(result), of_entry.get(place)]):
                of_entry[place] = largest
    of_images = family.ledger if family.images.build_image_processor(spec, size) else ()
    applying = {entry.name for entry in of_images if not entry.original_attributes and not entry.avoided}
    applying |= rounding & {name for names in named for name in names}
    if not results:
        others = (spec.image_size, spec.image_size + spec.patch_size) if spec.any_size and not baked else ()
        shapes = ((size, size) if baked else spec.shape_input(size), *((each, each) for each in others))
        applying |= {name for each in shapes for name in names_at(family, spec, each)}
    for entry in family.ledger:
        shown = sizes.get(entry.name, {})
        if shown or entry.name in applying:
            yield Otherwise(entry.name, entry.where, entry.cause, entry.remedy, entry.size, shown)


def format_ratio(ratio: float) -> str:
    """An error ratio, to as many digits as say something."""
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def describe_judged(judged: Judged) -> str:
    """What the comparison came to in a cell, in words."""
    said = {
        Verdict.EXACT: f"every bit agrees at {judged.compared}",
        Verdict.CLOSE: f"rounding alone: {judged.error_ratio:.2f} x the original's own error at {judged.compared}",
        Verdict.LOSSY: f"less precise: {format_ratio(judged.error_ratio)} x the original's own error; {judged.loss}",
        Verdict.FAILED: f"{judged.cause or 'it computes something else'} on {', '.join(judged.failing)}",
    }[judged.verdict]
    return f"{judged.verdict} with {judged.attention}: {said}"


def describe_off(each: Otherwise) -> str:
    """How far off this model is, by the sizes of images; where that was not measured, how much it usually is."""
    if not each.sizes:
        return f"How much: {each.size}."
    if any(off.relative_rms is None for off in each.sizes.values()):
        sizes = ", ".join(f"{off.max_abs:.2g} at {place}" for place, off in each.sizes.items())
        return f"What this model returns is off by up to {sizes}."
    sizes = ", ".join(f"{format_share(off.relative_rms or 0.0)} at {place}" for place, off in each.sizes.items())
    single = max(off.max_abs for off in each.sizes.values())
    return f"What this model returns is off by {sizes}; a single value by up to {single:.2g}."
