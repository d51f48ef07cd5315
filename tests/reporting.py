"""The report of a run: what each test of a variant came to goes with pytest's own reports, from any worker and host."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from conversion.card import MatrixVerdict, build_parity_card
from conversion.errors import ArtifactError
from conversion.report.records import Record, Result, read_result, write_record
from conversion.report.render import write_report
from tests.pictures import take_pictures
from tests.subject import Subject

FOUND = pytest.StashKey[dict[str, Any]]()
WRITTEN = pytest.StashKey[Path]()
"""The report of this run, once there is one."""

TEST = re.compile(r"test_parity\[(?P<variant>\w+)-(?P<device>[\w:]+)-(?P<dtype>\w+)-(?P<attention>.+?)\](@.*)?$")
"""The id of a test of a variant: variant, device, dtype, attention."""


def keep_for_report(test: pytest.Item, subject: Subject, cell: MatrixVerdict) -> None:
    """Keep what a test found, if a report was asked for; with pictures, of the first of a variant."""
    if subject.request.report is None:
        return
    card = build_parity_card(subject.converted, subject.provenance, (cell,), subject.hashes)
    is_first = not subject.verdicts
    pictures = take_pictures(subject, (cell.device, cell.dtype, cell.attention)) if is_first else ()
    test.stash[FOUND] = {"card": card, "pictures": [asdict(picture) for picture in pictures]}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if FOUND in item.stash and report.when == "call":
        report.parity_found = json.dumps(item.stash[FOUND])  # as pytest-xdist can send it
        del item.stash[FOUND]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    path, is_written = session.config.option.parity_report, True
    if path and not hasattr(session.config, "workerinput"):
        reporter = session.config.pluginmanager.getplugin("terminalreporter")
        is_written = _write(collect(reporter, session.config), path, reporter)
    yield
    if not is_written:
        session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR


def _write(record: Record, path: Path, reporter: pytest.TerminalReporter) -> bool:
    """Write report and record, if there is anything to report; whether that went well."""
    if not record.results:
        return True
    try:
        write_report(record, path)
        write_record(record, find_record(path))
    except OSError as error:
        reporter.write_line(f"\n--parity-report {path}: {error}", red=True)
        return False
    reporter.config.stash[WRITTEN] = path
    return True


def check_report(path: Path | None) -> None:
    """Refuse what no report can be written to, before anything is run.

    Raises:
        ArtifactError: it is a folder, or its record, beside it, would take its place.
    """
    if path is not None and (path.is_dir() or find_record(path) == path):
        raise ArtifactError(f"--parity-report {path}: a file for the page, as report.html; the record lies beside it.")


def find_record(report: Path) -> Path:
    """Where the record of a run lies: beside its report."""
    return report.with_suffix(".json")


def collect(reporter: pytest.TerminalReporter, config: pytest.Config) -> Record:
    """What all tests of variants came to."""
    results: dict[str, Result] = {}
    for reports in reporter.stats.values():
        for report in reports:
            found = TEST.search(report.nodeid) if isinstance(report, pytest.TestReport) else None
            # of a test that has failed while it was prepared, or torn down, that is what it came to
            if found and (report.when == "call" or report.failed):
                message = report.longreprtext if report.failed else ""
                more = json.loads(getattr(report, "parity_found", '{"card": null, "pictures": []}'))
                place = found.groupdict()
                results[report.nodeid] = read_result({**place, "seconds": report.duration, "message": message, **more})
    command = shlex.join(["pytest", *config.invocation_params.args])
    return Record((command,), tuple(results.values()))
