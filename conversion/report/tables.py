"""The tables of a report: what is said of a model, of its cells, and of what happened to its keys."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversion.artifact.verify import read_point, rebuild_spec
from conversion.families.base import load_family
from conversion.parity.deviations import Deviation, split_names
from conversion.parity.verdict import Verdict, rank, worst
from conversion.report.charts import Chart, draw_errors
from conversion.report.matrix import Model
from conversion.report.records import Result

Figures = Mapping[str, Any]

ERRORS = ("local", "converted_error", "original_error", "allowed")

POINT_COLUMNS = (
    "max difference",
    "max ULP",
    "local error",
    "error from the yardstick",
    "the original's",
    "allowed",
    "times the original's",
)
"""Of a capture point; those in the middle are :data:`ERRORS`."""


@dataclass(frozen=True)
class PointRow:
    """A capture point in one cell, on the input where it is worst."""

    name: str
    input: str
    figures: Figures

    @property
    def ratio(self) -> float | None:
        """Of the converted model's RMS error to the original's own; None where there is none."""
        own = self._size("original_error", "rms")
        return self.figures["converted_error"]["rms"] / own if own else None

    @property
    def texts(self) -> tuple[str, ...]:
        """Its figures, in the order of :data:`POINT_COLUMNS`; empty where there are none, or every bit is the same."""
        if self.figures["verdict"] == Verdict.EXACT:
            return ("",) * len(POINT_COLUMNS)
        ulps = self._size("difference", "max_ulp")
        return (
            format_size(self._size("difference", "max_abs")),
            "" if ulps is None else f"{ulps:,}",
            *(format_size(self._size(error, "rms")) for error in ERRORS),
            f"{self.ratio:.2f}" if self.ratio else "",
        )

    def _size(self, figure: str, kind: str) -> float | None:
        size: float | None = self.figures.get(figure, {}).get(kind)
        return size


@dataclass(frozen=True)
class DeviationRow:
    """A known deviation that applies to some inputs: how far off they are with it, and under its counterfactual.

    Attributes:
        inputs: name to largest difference as it is; and, with the counterfactual in force, to verdict.
    """

    entry: Deviation
    inputs: Mapping[str, tuple[float, Verdict]]


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


def list_decisive(result: Figures) -> Sequence[Figures]:
    """The capture points of an input that decide."""
    points: Sequence[Figures] = result.get("counterfactual") or result["points"]
    return points


def list_points(result: Result) -> list[PointRow]:
    """Every capture point of a cell, in the order of the computation."""
    worst_of: dict[str, PointRow] = {}
    for each in result.inputs:
        for point in list_decisive(each):
            row = PointRow(point["point"], each["input"], point)
            if row.name not in worst_of or _rank(row) > _rank(worst_of[row.name]):
                worst_of[row.name] = row
    return list(worst_of.values())


def _rank(row: PointRow) -> tuple[int, float]:
    return rank(read_point(row.figures))


def list_charts(result: Result) -> dict[str, Chart]:
    """Input to its errors along the depth, where there are any."""
    drawn = {}
    for each in result.inputs:
        chart = draw_errors(list_decisive(each), each["points"] if "counterfactual" in each else ())
        if chart:
            drawn[each["input"]] = chart
    return drawn


def list_deviations(model: Model) -> list[DeviationRow]:
    """Those that apply to a model, each with the inputs that show it."""
    if model.card is None:
        return []
    shown: dict[str, dict[str, tuple[float, Verdict]]] = {}
    for result in model.results.values():
        for each in result.inputs:
            size = max((point["difference"]["max_abs"] for point in each["points"] if "difference" in point), default=0)
            agreed = worst([Verdict(point["verdict"]) for point in list_decisive(each)])
            for name in split_names(each["deviation"]):
                largest, verdict = shown.setdefault(name, {}).get(each["input"], (0.0, Verdict.EXACT))
                shown[name][each["input"]] = max(largest, size), worst([verdict, agreed])
    ledger = {entry.name: entry for entry in load_family(model.card["family"]).ledger}
    return [DeviationRow(ledger[name], inputs) for name, inputs in shown.items()]


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


def is_exact(result: Result) -> bool:
    """Whether every bit is the same at every capture point that decides."""
    points = [point for each in result.inputs for point in list_decisive(each)]
    return bool(points) and all(point["verdict"] == Verdict.EXACT for point in points)


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
    failed = [point for each in result.inputs for point in list_decisive(each) if point["verdict"] == Verdict.FAILED]
    if failed:
        return Headline(f"first at {failed[0]['point']}", order)
    ratio = max(each["error_ratio"] for each in result.inputs)
    text = "0 ULP" if is_exact(result) else f"{ratio:.2f} x the original's error"
    if result.verdict is Verdict.DEVIATION:
        text += " otherwise"
    return Headline(text, order + min(ratio / 1e3, 0.999))
