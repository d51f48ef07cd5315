"""What each test of the matrix came to, as a row: it goes with pytest's report, to the closing table, JUnit and GitHub.

A plugin of ``conftest.py``.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from conversion.exports.asked import NOT_AS_ASKED, find_export
from conversion.parity.verdict import Verdict
from conversion.suite import github, reporting
from conversion.suite.job_summary import FAILED, NOT_RUN, Row
from conversion.suite.summary import list_properties
from conversion.suite.workflow_commands import is_listening

KEPT = pytest.StashKey[dict[str, Any]]()
SUBJECT = re.compile(r"\[(\w+)")
"""Of a test's id: the variant."""

WORKER = re.compile(r"\A\[gw\d+\] .*\n")
"""What pytest-xdist puts before a message: the worker, and its Python."""


def keep_row(test: pytest.Item, row: dict[str, Any]) -> None:
    """Keep the row of a test, of plain values; and what JUnit has of it as properties, which are texts and numbers."""
    test.stash[KEPT] = row
    test.user_properties += [
        ("verdict", row["verdict"]),
        ("worst_point", row["worst capture point"]),
        *([] if row["error"] is None else [("error_ratio", float(f"{row['error']:.4g}"))]),
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.when == "call" and KEPT in item.stash:
        report.parity_row = item.stash[KEPT]  # type: ignore[attr-defined] # pytest-xdist sends attributes of plain values
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")  # whose rows are part of the controller's
    if is_listening() and not is_worker and not config.option.collectonly:
        for line in github.report(collect_rows(terminalreporter, config)):
            terminalreporter.write_line(line)


def find_row(report: pytest.TestReport) -> Mapping[str, Any] | None:
    """The row that goes with a report; None of a test that compared nothing."""
    row: Mapping[str, Any] | None = getattr(report, "parity_row", None)
    return row


def collect_rows(reporter: pytest.TerminalReporter, config: pytest.Config) -> list[Row]:
    """A row for each cell of the matrix that was selected, whatever became of it."""
    properties = list_properties(reporter, "kept") if config.option.save_artifacts else {}
    kept = {found[1]: name for test, name in properties.items() if (found := SUBJECT.search(test))}
    rows = []
    for test, phases in reporting.group_reports(reporter, config).items():
        if cell := reporting.CELL.search(test):
            artifact = str(config.option.artifacts_dir / kept[cell["variant"]]) if cell["variant"] in kept else ""
            rows.append(build_row(cell.groupdict(), phases, file=test.partition("::")[0], artifact=artifact))
        elif (whole := reporting.WHOLE.search(test)) and (message := describe_failures(phases)):
            rows.append(Row(whole["variant"], message=message, file=test.partition("::")[0]))
    return rows


def list_outcomes(rows: Sequence[Row]) -> list[str]:
    """Which variants are the same model, and which are not: a line for each outcome."""
    outcomes: dict[str, dict[str, None]] = {}
    for variant in dict.fromkeys(row.variant for row in rows):
        own = [row for row in rows if row.variant == variant]
        of_model = {row.verdict for row in own if not find_export((row.device, row.dtype, row.attention))}
        verdicts = {row.verdict for row in own}
        claims = of_model - {FAILED, NOT_RUN, *Verdict}
        outcome = "the same model" if not claims else ", ".join(sorted(claims))
        if not of_model:
            outcome = "exports alone were verified, and nothing was kept"
        if FAILED in of_model or NOT_RUN in verdicts:
            outcome = "not shown to be the same model" if FAILED in of_model else "not verified to the end"
        elif FAILED in verdicts:
            outcome += f", but {NOT_AS_ASKED}" if of_model else f": {NOT_AS_ASKED}"
        if lossy := [row.attention for row in rows if (row.variant, row.verdict) == (variant, Verdict.LOSSY)]:
            outcome += f" ({', '.join(lossy)} lossy)"
        outcomes.setdefault(outcome, {})[variant] = None
    return [f"{outcome}: {', '.join(variants)}" for outcome, variants in outcomes.items()]


def build_row(place: dict[str, Any], reports: Sequence[pytest.TestReport], *, file: str, artifact: str) -> Row:
    """The row of a cell, from what pytest reported of its test in each phase."""
    row = next(filter(None, map(find_row, reports)), None)
    message = describe_failures(reports)
    if row is None:
        return Row(**place, verdict=FAILED if message else NOT_RUN, message=message, file=file)
    return Row(
        **place,
        verdict=FAILED if message else row["claim"] or row["verdict"],
        error_ratio=row["error"],
        worst_point=row["worst capture point"],
        seconds=sum(report.duration for report in reports if report.when == "call"),
        otherwise=row["deviations"],
        artifact=artifact,
        message=message,
        file=file,
    )


def describe_failures(reports: Sequence[pytest.TestReport]) -> str:
    """Why a test failed, in whichever phase; empty where it did not."""
    texts = [WORKER.sub("", report.longreprtext) or "It failed." for report in reports if report.failed]
    return "\n".join(texts)
