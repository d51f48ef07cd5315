"""The matrix of a report: a row a model, a column a cell that some model was verified in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.parity.verdict import Verdict, worst
from conversion.report.records import Picture, Result
from conversion.variants import VARIANTS

# of what a card says, what tells one model from another; the rest depends on who converts it, and with what
IDENTITY = ("variant", "source", "spec", "baked_image_size")


@dataclass(frozen=True)
class Column:
    """Where models were verified.

    Attributes:
        versions: of libraries, and the processor; empty where all were verified with the same.
    """

    device: str
    dtype: str
    attention: str
    versions: str = ""


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
        """The worst of its cells'."""
        return worst([result.verdict for result in self.results.values()])

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Those of the first cell that has any."""
        return next((result.pictures for result in self.results.values() if result.pictures), ())


def build_matrix(results: Sequence[Result]) -> tuple[list[Column], list[Model]]:
    """Columns and rows of the matrix, rows in the order of the table of variants."""
    environments = {describe_versions(result.card) for result in results if result.card}
    rows: list[Model] = []
    for number, group in enumerate(_group(results)):
        cells: dict[Column, Result] = {}
        for result in group:
            versions = describe_versions(result.card) if result.card and len(environments) > 1 else ""
            column = Column(result.device, result.dtype, result.attention, versions)
            # verified again with other figures: the worse counts
            if column not in cells or worst([cells[column].verdict, result.verdict]) is not cells[column].verdict:
                cells[column] = result
        variant, card = group[0].variant, group[0].card
        rows.append(Model(f"model-{number}", variant, describe_origin(card), card, cells))
    order = {name: index for index, name in enumerate(VARIANTS)}
    rows.sort(key=lambda row: order.get(row.variant, len(order)))
    return list(dict.fromkeys(column for row in rows for column in row.results)), rows


def _group(results: Sequence[Result]) -> list[list[Result]]:
    """Results of the same model together, those with a card first.

    What did not come to a comparison has no card that tells whose it is: it goes with the only model of its variant, if
    there is only one.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.card:
            identity = {name: result.card[name] for name in IDENTITY}
            groups.setdefault(json.dumps(identity, sort_keys=True), []).append(result)
    for result in results:
        if not result.card:
            others = [group for group in groups.values() if group[0].variant == result.variant]
            group = others[0] if len(others) == 1 else groups.setdefault(result.variant, [])
            group.append(result)
    return list(groups.values())


def describe_origin(card: Mapping[str, Any] | None) -> str:
    """Where a model's weights come from, in a few words."""
    if card is None:
        return "not compared"
    weights, seed = card["source"]["weights"], card["source"]["seed"]
    names = [file["name"] for source in card["source"]["checkpoints"].values() for file in source["files"]]
    described = {"synthetic": f"synthetic weights, seed {seed}", "pretrained": "official weights"}.get(weights, "")
    described = described or (names[0] if names else "a state dict")
    return described + (f", baked for {card['baked_image_size']}" if card["baked_image_size"] else "")


def describe_versions(card: Mapping[str, Any]) -> str:
    """What it was computed with, in a line."""
    return ", ".join(f"{name} {version}" for name, version in card["versions"].items())
