"""What changed between two runs: each cell that was run, beside the same cell of a baseline.

A cell is held against that of the same model on the same kind of processor. Where there is none, it is held against
the same model on another kind, or else the same variant with other blocks or weights. These may round otherwise: exact
and close are the same then.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from conversion.errors import ArtifactError
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import CHANCE, ERROR_RATIO, Tolerances, Verdict, allow_for_chance
from conversion.report.baseline import (
    EITHER,
    UNKNOWN,
    Cell,
    InputResult,
    Model,
    collect_cells,
    combine_versions,
    is_baseline,
    read_baseline,
)
from conversion.report.records import gather

NONE = "none"
"""In the place of what only one of the two has."""

VERDICT, RATIO, OTHERWISE, INPUT, TEST = "verdict", "error ratio", "transformers does otherwise", "input", "test"
"""What may have changed; beside these, the SHA-256 of a file of weights."""

HINT = "Give each as a folder with artifacts or records, the JSON beside a report, or a file that diff --write wrote."

RATIOS = Tolerances(error_ratio=math.sqrt(ERROR_RATIO), chance=math.sqrt(2) * CHANCE)
"""How far two error ratios of one input may lie apart, for :func:`allow_for_chance`.

The square root of what is close, 1.41: halfway, by factors, between the same error and one that is close no more. The
worst capture points of official models, but for two, lie between 1.0 and 1.3 wherever the roundings fall, so that two
of them are at most 1.3 times apart. Chance gives more where that point has few elements: the logarithm of one ratio
scatters by 1 / sqrt(n), that of two independent ones by sqrt(2) times that, and six of these exceed 1.41 below 600
elements.
"""


@dataclass(frozen=True)
class Pair:
    """A cell of the baseline and the cell that is held against it."""

    before: Cell
    now: Cell

    @property
    def is_same_model(self) -> bool:
        """Whether both are of one model with the same weights; one that was not compared has no other."""
        return self.before.model == self.now.model

    @property
    def is_alike(self) -> bool:
        """Whether both have to be exact, or neither: the same model, on the same kind of processor."""
        return self.is_same_model and self.before.processor == self.now.processor

    @property
    def is_rerun(self) -> bool:
        """Whether every bit has to be the same: nothing is different, and all is known."""
        versions = self.before.versions
        is_known = bool(versions) and not any(EITHER in version for version in versions.values())
        return self.is_alike and is_known and versions == self.now.versions


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        model: as :func:`name_model` calls it.
        place: empty where it is of the model in all of them.
        input: empty where it is not of one.
        what: changed.
        beside: what it was held against, if that is not the same model on the same kind of processor; else empty.
    """

    model: str
    place: str
    processor: str
    input: str
    what: str
    before: str | float
    now: str | float
    beside: str = ""


@dataclass(frozen=True)
class VersionPair:
    """The versions of one library on one kind of processor, in the cells that were compared."""

    processor: str
    name: str
    before: str
    now: str


@dataclass(frozen=True)
class Diff:
    """What changed between a baseline and a new run.

    Attributes:
        compared: cells.
        not_run: cells of the baseline that the new run has no result of, on whatever kind of processor.
        added: cells of the new run that the baseline has no result of; they are compared with nothing.
        others: models that were held against one with other weights, other blocks or another size, each in a line.
    """

    changes: tuple[Change, ...]
    versions: tuple[VersionPair, ...]
    compared: int
    not_run: int
    added: int
    others: tuple[str, ...] = ()


def read_side(path: Path) -> tuple[Cell, ...]:
    """The cells of a folder, of the record of a run, or of a file of recorded verdicts.

    Raises:
        ArtifactError: there is nothing to compare, or it cannot be trusted.
    """
    if is_baseline(path):
        return read_baseline(path)
    try:
        record = gather([path])
    except ArtifactError as error:
        raise ArtifactError(f"{path}: cannot be compared.", error.problems, HINT) from error
    return collect_cells(record)


def compare_runs(before: Sequence[Cell], now: Sequence[Cell]) -> Diff:
    """Hold every cell of a run against the baseline.

    Raises:
        ArtifactError: the two have no cell of a variant in common.
    """
    pairs = [Pair(other, cell) for cell in now if (other := find_counterpart(cell, before))]
    if not pairs:
        problems = (f"{name}: {_list_places(cells)}" for name, cells in (("BASELINE", before), ("NEW", now)))
        raise ArtifactError("Nothing can be compared: no variant was run in the same cell in both.", problems)
    places = {(cell.model, cell.place) for cell in before} - {(pair.before.model, pair.before.place) for pair in pairs}
    changes = dict.fromkeys(change for pair in pairs for change in find_changes(pair))
    others = dict.fromkeys(
        _describe_models(pair)
        for pair in pairs
        if not pair.is_same_model and UNKNOWN not in (pair.before.model.source, pair.now.model.source)
    )
    counts = len(pairs), len(places), len(now) - len(pairs)
    return Diff(tuple(changes), tuple(pair_versions(pairs)), *counts, tuple(others))


def find_counterpart(cell: Cell, baseline: Iterable[Cell]) -> Cell | None:
    """The cell of a baseline that comes nearest; None where it has none of this variant in this place."""
    found = (each for each in baseline if (each.model.variant, each.place) == (cell.model.variant, cell.place))
    return max(
        found, key=lambda each: (each.model == cell.model, each.processor == cell.processor, each.key), default=None
    )


def _describe_models(pair: Pair) -> str:
    before, now = (f"{name_model(model)}, {model.source}" for model in (pair.before.model, pair.now.model))
    return f"Another model: {now}; before: {before}. The weights were not compared."


def _list_places(cells: Iterable[Cell]) -> str:
    names = sorted({f"{cell.model.variant} on {cell.place}" for cell in cells})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "nothing was run"


def find_changes(pair: Pair) -> Iterator[Change]:
    """Everything in which the cell is not as it was."""
    before, now = pair.before, pair.now
    if before.failure != now.failure:
        sides = (f"failed ({cell.failure})" if cell.failure else "passed" for cell in (before, now))
        yield _build_change(pair, "", TEST, *sides)
    if pair.is_alike:
        for name in sorted(before.weights.keys() & now.weights.keys()):
            if before.weights[name] != now.weights[name]:
                hashes = before.weights[name], now.weights[name]
                yield replace(_build_change(pair, "", f"SHA-256 of {name}", *hashes), place="")
    if UNKNOWN in (before.processor, now.processor):
        return
    for name in {**now.inputs, **before.inputs}:
        yield from _compare_input(pair, name, before.inputs.get(name), now.inputs.get(name))


def _compare_input(pair: Pair, name: str, before: InputResult | None, now: InputResult | None) -> Iterator[Change]:
    if before is None or now is None:
        if pair.is_same_model:
            sides = (str(result.verdict) if result else NONE for result in (before, now))
            yield _build_change(pair, name, INPUT, *sides)
        return
    verdicts = {before.verdict, now.verdict}
    is_other = len(verdicts) > 1 and (pair.is_alike or Verdict.FAILED in verdicts)
    if is_other:
        yield _build_change(pair, name, VERDICT, str(before.verdict), str(now.verdict))
    if is_other_ratio(before, now, is_rerun=pair.is_rerun) or (is_other and before.error_ratio != now.error_ratio):
        yield _build_change(pair, name, RATIO, before.error_ratio, now.error_ratio)
    is_same_size = pair.before.model.image_size == pair.now.model.image_size  # which decides what is resampled
    if is_same_size and before.otherwise != now.otherwise:
        sides = (", ".join(result.otherwise) or NONE for result in (before, now))
        yield _build_change(pair, name, OTHERWISE, *sides)


def is_other_ratio(before: InputResult, now: InputResult, *, is_rerun: bool) -> bool:
    """Whether the error ratio of an input changed by more than roundings at other places give.

    Where nothing else is different, any change is one: every bit has to be the same. Otherwise the larger of the two
    may be 1.41 times the smaller, or what chance gives with as few elements as the worst capture point has, where that
    is more; see :data:`RATIOS`. A file of recorded verdicts does not say how many these are.
    """
    smaller, larger = sorted((before.error_ratio, now.error_ratio))
    if is_rerun:
        return larger != smaller
    elements = min((result.elements for result in (before, now) if result.elements), default=0)
    allowed = allow_for_chance(elements, RATIOS)[0] if elements else RATIOS.error_ratio
    return larger > allowed * smaller


def _build_change(pair: Pair, name: str, what: str, before: str | float, now: str | float) -> Change:
    model, processor = name_model(pair.now.model), pair.now.processor or pair.before.processor
    beside = "" if pair.is_alike or not pair.now.processor else _describe_other(pair)
    return Change(model, pair.now.place, processor, name, what, before, now, beside)


def _describe_other(pair: Pair) -> str:
    model, others = name_model(pair.before.model), []
    if not pair.is_same_model:
        is_named_alike = model == name_model(pair.now.model)
        others.append(pair.before.model.source if is_named_alike else model)
    if pair.before.processor != pair.now.processor:
        others.append(pair.before.processor or "no processor")
    return " on ".join(others)


def name_model(model: Model) -> str:
    """A model as people read of it: the variant, and how many of its blocks were run where these are not all."""
    row = VARIANTS.get(model.variant)
    whole = row.spec["depth"] if row else model.blocks
    return model.variant + (f" ({model.blocks} of {whole} blocks)" if model.blocks not in (0, whole) else "")


def pair_versions(pairs: Sequence[Pair]) -> Iterator[VersionPair]:
    """The versions of both sides, by kind of processor."""
    for processor in sorted({pair.now.processor for pair in pairs} - {UNKNOWN}):
        of_kind = [pair for pair in pairs if pair.now.processor == processor]
        before = combine_versions(pair.before for pair in of_kind)
        now = combine_versions(pair.now for pair in of_kind)
        for name in sorted({**before, **now}):
            yield VersionPair(processor, name, before.get(name, NONE), now.get(name, NONE))


def as_plain(diff: Diff) -> dict[str, Any]:
    """A diff as JSON has it."""
    return {"same": not diff.changes, **asdict(diff)}
