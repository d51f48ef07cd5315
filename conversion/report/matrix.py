"""The matrix of a report: a row a model, a column a cell that some model was verified in."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conversion.families.external import BUNDLED
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import Verdict, worst
from conversion.report.records import Picture, Result

# of what a card says, what tells one model from another; the rest depends on who converts it, and with what
IDENTITY = ("variant", "source", "spec", "baked_image_size")


@dataclass(frozen=True)
class Column:
    """Where models were verified.

    Attributes:
        original: whose code was the reference.
        versions: of libraries and the processor, those that are not the same everywhere.
    """

    device: str
    dtype: str
    attention: str
    original: str = BUNDLED
    versions: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """What stands above it."""
        original = self.original if self.original != BUNDLED else ""
        return tuple(filter(None, (self.device, self.dtype, self.attention, original, self.versions)))


@dataclass(frozen=True)
class Model:
    """A row of the matrix.

    Attributes:
        anchor: of its part of the page.
        card: of any of its results; None where nothing came to a comparison.
    """

    anchor: str
    variant: str
    origin: str
    card: Mapping[str, Any] | None
    results: Mapping[Column, Result]

    @property
    def verdict(self) -> Verdict:
        """The worst of its cells', without exports that are lossy: the model itself is not, for them."""
        verdicts = [result.verdict for result in self.results.values()]
        return worst([verdict for verdict in verdicts if verdict is not Verdict.LOSSY] or verdicts)

    @property
    def deciding(self) -> Column:
        """The first cell that came to that verdict; those with figures come before others."""
        return next(column for column, result in self.results.items() if result.verdict is self.verdict)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Those of the first cell that has any."""
        return next((result.pictures for result in self.results.values() if result.pictures), ())

    @property
    def pictured(self) -> str:
        """Which cell that is."""
        found = next(column for column, result in self.results.items() if result.pictures)
        return ", ".join(found.lines)


def build_matrix(results: Sequence[Result]) -> tuple[list[Column], list[Model]]:
    """Columns and rows of the matrix: those that failed first, then in the order of the table of variants."""
    differing = find_differing([result.card["versions"] for result in results if result.card])
    rows: list[Model] = []
    for number, group in enumerate(_group(results)):
        cells: dict[Column, Result] = {}
        for result in group:
            versions = describe_versions(result.card, differing) if result.card else ""
            column = Column(result.device, result.dtype, result.attention, result.original, versions)
            cells[column] = _choose(cells[column], result) if column in cells else result
        variant, card = group[0].variant, group[0].card
        rows.append(Model(f"model-{number}", variant, group[0].origin, card, cells))
    order = {name: index for index, name in enumerate(VARIANTS)}
    rows.sort(key=lambda row: (row.verdict is not Verdict.FAILED, order.get(row.variant, len(order))))
    return list(dict.fromkeys(column for row in rows for column in row.results)), rows


def _choose(before: Result, result: Result) -> Result:
    """Of two in one cell, the worse; with the other's figures, if it has none itself."""
    if worst([before.verdict, result.verdict]) is before.verdict:
        before, result = result, before
    return result if result.card else replace(before, message=result.message)


def _group(results: Sequence[Result]) -> list[list[Result]]:
    """Results of the same model together, those with a card first.

    What did not come to a comparison has no card that tells whose it is: it goes with the only model of its variant and
    origin, if there is only one.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.card:
            identity = {name: result.card[name] for name in IDENTITY}
            groups.setdefault(json.dumps(identity, sort_keys=True), []).append(result)
    for result in results:
        if not result.card:
            name = result.variant, result.origin
            others = [group for group in groups.values() if (group[0].variant, group[0].origin) == name]
            group = others[0] if len(others) == 1 else groups.setdefault(json.dumps(name), [])
            group.append(result)
    return list(groups.values())


def find_differing(versions: Sequence[Mapping[str, str]]) -> set[str]:
    """Names of what is not of the same version everywhere."""
    names = {name for each in versions for name in each}
    return {name for name in names if len({each.get(name) for each in versions}) > 1}


def describe_versions(card: Mapping[str, Any], names: Container[str] | None = None) -> str:
    """What it was computed with, in a line, sorted by name; of these names alone, if any are given."""
    versions = sorted(card["versions"].items())
    return ", ".join(f"{name} {version}" for name, version in versions if names is None or name in names)
