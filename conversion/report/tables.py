"""The tables of a report: what is said of a model, of its cells, and of what happened to its keys."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conversion.artifact.card_points import read_points
from conversion.artifact.reading import rebuild_spec
from conversion.families.base import load_family
from conversion.parity.metrics import Distance
from conversion.parity.verdict import PointVerdict, Verdict, rank
from conversion.report.charts import Chart, draw_errors
from conversion.report.matrix import Model
from conversion.report.records import Result

Figures = Mapping[str, Any]

ERRORS = ("local", "converted_error", "original_error", "allowed")

POINT_COLUMNS = (
    "max difference",
    "local error",
    "error against float64",
    "original's error",
    "allowed",
    "ratio of the two errors",
)
"""Of a capture point; those in the middle are :data:`ERRORS`."""


@dataclass(frozen=True)
class PointRow:
    """A capture point in one cell, on the input where it is worst."""

    input: str
    verdict: PointVerdict

    @property
    def texts(self) -> tuple[str, ...]:
        """Its figures, in the order of :data:`POINT_COLUMNS`; empty where there are none, or every bit is the same."""
        point = self.verdict
        if point.verdict is Verdict.EXACT:
            return ("",) * len(POINT_COLUMNS)
        errors: list[Distance | None] = [getattr(point, error) for error in ERRORS]
        return (
            format_size(point.difference.max_abs if point.difference else None),
            *(format_size(size.rms if size else None) for size in errors),
            f"{point.error_ratio:.2f}" if point.error_ratio else "",
        )


@dataclass(frozen=True)
class KeyRow:
    """Keys of one kind, ``{}`` standing for the number of a block, and what became of them."""

    original: str
    converted: tuple[str, ...]
    action: str


def format_size(value: float | None) -> str:
    """An error or a difference, to three digits; empty where there is none."""
    if value is None:
        return ""
    return f"{value:.2e}" if value else "0"


def list_points(result: Result) -> list[PointRow]:
    """Every capture point of a cell, in the order of the computation."""
    worst_of: dict[str, PointRow] = {}
    for each in result.inputs:
        for point in read_points(each["points"], result.dtype):
            row, before = PointRow(each["input"], point), worst_of.get(point.point)
            if before is None or rank(point) > rank(before.verdict):
                worst_of[point.point] = row
    return list(worst_of.values())


def count_points(rows: Iterable[PointRow]) -> str:
    """How many capture points came to which verdict, in a line."""
    counts = Counter(row.verdict.verdict for row in rows)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])


def list_charts(result: Result) -> dict[str, Chart]:
    """Input to its errors along the depth, where there are any."""
    drawn = {}
    for each in result.inputs:
        otherwise = {name: rms for name, (_, rms, *_) in each.get("otherwise", {}).items()}
        if chart := draw_errors(read_points(each["points"], result.dtype), otherwise):
            drawn[each["input"]] = chart
    return drawn


def list_files(model: Model) -> dict[tuple[str, str], None]:
    """Name and SHA-256 of every converted file: several of one name where it was converted more than once."""
    cards = [result.card for result in model.results.values() if result.card]
    return dict.fromkeys((name, sha256) for card in cards for name, sha256 in card["result"].items())


def list_keys(card: Figures) -> list[KeyRow]:
    """What became of the original's keys, those of all blocks in one row."""
    family = load_family(card["family"])
    major = int(card["layout"][0].split()[-1])
    rows = [
        KeyRow(source, (target,) if isinstance(target, str) else target, describe_action(target))
        for source, target in family.select_key_map(rebuild_spec(card), major).items()
    ]
    kinds = ((re.sub(r"(?<=\.)\d+(?=\.)", "{}", key), why) for key, why in card["keys"]["dropped"].items())
    dropped = dict.fromkeys(kinds)
    return rows + [KeyRow(key, (), f"dropped: {reason}") for key, reason in dropped]


def describe_action(target: str | tuple[str, ...]) -> str:
    """What a row of a key map does."""
    return "renamed" if isinstance(target, str) else f"split into {len(target)}"


@dataclass(frozen=True)
class Headline:
    """A cell of the matrix in a few words, and its place among others: the better, the smaller."""

    text: str
    rank: float


def summarise(result: Result) -> Headline:
    """What a cell came to."""
    order = list(Verdict).index(result.verdict)
    if not result.inputs:
        return Headline("not compared", order)
    rows = [point for each in result.inputs for point in read_points(each["points"], result.dtype)]
    failed = [point for point in rows if point.verdict is Verdict.FAILED]
    if failed:
        return Headline(f"first at {failed[0].point}", order)
    if result.verdict is Verdict.FAILED:
        return Headline("compared, and failed otherwise", order)
    ratio = max(each["error_ratio"] for each in result.inputs)
    text = "0 ULP" if result.verdict is Verdict.EXACT else f"{ratio:.2f} x the original's error"
    return Headline(text, order + min(ratio / 1e3, 0.999))
