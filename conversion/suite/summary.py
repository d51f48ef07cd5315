"""What a run comes to, below pytest's own: a row a cell of the matrix, what transformers does otherwise, the end."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console
from rich.table import Table

from conversion.artifact.card import MatrixVerdict
from conversion.artifact.reading import read_card
from conversion.artifact.usage import write_usage
from conversion.families.base import families
from conversion.parity.deviations import split_names
from conversion.parity.verdict import Verdict, rank
from conversion.state_dicts.folder import PARITY_CARD

COLUMNS = ("variant", "device", "dtype", "attention", "verdict", "error", "time", "worst capture point")
NUMBERS = ("error", "time")
WHOLE = ("variant", "verdict")
"""Columns that no narrow terminal shortens."""
WIDE = 120
"""Columns of a terminal from which the last one fits beside the others."""

STYLES = {Verdict.EXACT: "green", Verdict.CLOSE: "green", Verdict.LOSSY: "yellow", Verdict.FAILED: "bold red"}

PIPE_WIDTH = 200
"""Columns where there is no terminal: nothing is folded, every row is a line."""

ALIGNED = (
    "bit for bit equal once the weights were copied to multiples of 64 bytes in memory; where the files have them, "
    "some matrix products round otherwise on this processor"
)

Row = Mapping[str, Any]


def describe_cell(
    variant: str, cell: MatrixVerdict, remarks: Sequence[str] = (), claim: str = "", sizes: str = ""
) -> dict[str, Any]:
    """A cell of the matrix as a row, of plain values, which pytest-xdist can send.

    Args:
        remarks: what is said of the variant below the table.
        claim: all that is claimed where the comparison has not failed; the verdict itself unless given.
        sizes: at which image sizes it is identical, in words; empty where at all that concern its user.
    """
    points = [(result.name, point) for result in cell.inputs for point in result.points]
    place, point = max(points, key=lambda each: rank(each[1]))
    is_unmeasured = point.verdict is Verdict.FAILED and point.error_ratio is None  # another shape, or no number
    deviations: dict[str, list[str]] = {}
    for result in cell.inputs:
        for name in split_names(result.deviation):
            deviations.setdefault(name, []).append(result.name)
    return {
        "variant": variant,
        "device": cell.device,
        "dtype": cell.dtype,
        "attention": cell.attention,
        "verdict": str(cell.verdict),
        "worst capture point": "" if point.verdict is Verdict.EXACT else f"{place} {point.point}",
        "error": None if is_unmeasured else max(result.error_ratio for result in cell.inputs),
        "deviations": deviations,
        "remarks": list(remarks),
        "claim": claim,
        "sizes": sizes,
        "aligned": [result.name for result in cell.inputs if result.aligned],
    }


def summarise(
    reporter: pytest.TerminalReporter, artifacts: Path | None, report: Path | None = None, outcomes: Sequence[str] = ()
) -> None:
    """Write what the tests have recorded.

    Args:
        outcomes: which variants are the same model, and which are not, in lines.
        artifacts: where converted models were to be kept, if they were.
        report: that was written, if one was.
    """
    reports = [
        report
        for found in reporter.stats.values()
        for report in found
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    _summarise_faults(reporter, [dict(report.user_properties) for report in reports])
    rows = [{**report.parity_row, "seconds": report.duration} for report in reports if hasattr(report, "parity_row")]
    if not rows:
        return
    reporter.section("parity")
    is_terminal = reporter.hasmarkup
    width = shutil.get_terminal_size().columns if is_terminal else PIPE_WIDTH
    console = Console(width=width, force_terminal=is_terminal, color_system="standard" if is_terminal else None)
    with console.capture() as captured:
        console.print(_build_table(rows, COLUMNS if width >= WIDE else COLUMNS[:-1]))
    lines = [*captured.get().splitlines(), *_list_deviations(rows), *_list_aligned(rows)]
    lines += dict.fromkeys(f"{row['variant']}: {row['sizes']}" for row in rows if row["sizes"])
    lines += dict.fromkeys(f"{row['variant']}: {remark}" for row in rows for remark in row["remarks"])
    lines += outcomes
    if artifacts is not None:
        lines += list_properties(reporter, "replaced").values()
        lines += _describe_kept(artifacts, list_kept(reporter))
    if report is not None:
        lines.append(f"report: {report.absolute()}")
    for line in lines:
        reporter.write_line(line.rstrip())


def _describe_kept(artifacts: Path, kept: Sequence[str]) -> list[str]:
    """Where the artifacts are; of a single one, how to load it."""
    lines = [f"artifacts: {', '.join(kept) or 'none'}, in {artifacts.absolute()}"]
    if len(kept) == 1 and (artifacts / kept[0] / PARITY_CARD).exists():  # not where another host has it
        usage = write_usage(read_card(artifacts / kept[0]), str(artifacts / kept[0]))
        lines += ["", *usage]  # not indented, so that it can be pasted
    return lines


def list_kept(reporter: pytest.TerminalReporter) -> list[str]:
    """The folders of the artifacts that this run has left, every test of their variants having passed."""
    return list(dict.fromkeys(list_properties(reporter, "kept").values()))


def list_properties(reporter: pytest.TerminalReporter, name: str) -> dict[str, str]:
    """A property that tests were given, by the test's id."""
    reports = [each for found in reporter.stats.values() for each in found if isinstance(each, pytest.TestReport)]
    return {each.nodeid: str(value) for each in reports for key, value in each.user_properties if key == name}


def _build_table(rows: Iterable[Row], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in NUMBERS else "left"
        table.add_column(column, justify=justify, no_wrap=column in WHOLE, overflow="fold")
    for row in rows:
        verdict = row["verdict"]
        said = verdict if verdict == Verdict.FAILED else row["claim"] or verdict
        shown = {**row, "verdict": f"[{STYLES[Verdict(verdict)]}]{said}[/]", "error": _describe_ratio(row["error"])}
        shown |= {"time": f"{row['seconds']:.0f} s"}
        table.add_row(*(str(shown[column]) for column in columns))
    return table


def _describe_ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} x"


def gather_deviations(rows: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, tuple[str, list[str]]]:
    """The name of each deviation to its cause and the inputs that show it.

    Args:
        rows: of each cell of the matrix, name to such inputs.
    """
    inputs: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, found in row.items():
            inputs.setdefault(name, {}).update(dict.fromkeys(found))
    causes = {entry.name: entry.cause for family in families() for entry in family.ledger}
    return {name: (causes.get(name, ""), list(found)) for name, found in inputs.items()}


def _list_deviations(rows: Sequence[Row]) -> list[str]:
    gathered = gather_deviations(row["deviations"] for row in rows)
    return [
        f"transformers does otherwise: {name} ({', '.join(inputs)}): {cause}"
        for name, (cause, inputs) in gathered.items()
    ]


def _list_aligned(rows: Sequence[Row]) -> list[str]:
    """The inputs that are exact with the weights copied to aligned memory alone, by variant."""
    inputs: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["aligned"]:
            inputs.setdefault(row["variant"], {}).update(dict.fromkeys(row["aligned"]))
    return [f"aligned {variant} ({', '.join(found)}): {ALIGNED}" for variant, found in inputs.items()]


def _summarise_faults(reporter: pytest.TerminalReporter, tests: Sequence[Row]) -> None:
    count, intact, alarms = (
        sum(properties.get(name, 0) for properties in tests) for name in ("faults", "intact_points", "false_alarms")
    )
    survivors = [name for properties in tests for name in properties.get("survivors", ())]
    if count or intact:
        reporter.section("sensitivity")
    if count:
        reporter.write_line(f"{count} faults put in, {count - len(survivors)} noticed")
    for name in survivors:
        reporter.write_line(f"not noticed: {name}", red=True)
    if intact:
        reporter.write_line(f"{intact} comparisons of intact models at a capture point, {alarms} false alarms")
