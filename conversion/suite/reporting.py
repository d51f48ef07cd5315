"""The report of a run: what each test of a variant came to goes with pytest's own reports, from any worker and host."""

import json
import re
import shlex
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.artifact.card import MatrixVerdict, build_parity_card
from conversion.errors import ArtifactError
from conversion.parity.verdict import Verdict
from conversion.report.baseline import was_exact
from conversion.report.place import check_place
from conversion.report.records import (
    ANY,
    LOST_EXACTNESS,
    NOT_RUN,
    SCHEMA,
    Record,
    Result,
    describe_origin,
    name_origin,
    read_result,
    write_record,
)
from conversion.report.render import explain_writing, write_report
from conversion.suite.pictures import take_what_can_be
from conversion.suite.subject import Subject

FOUND = pytest.StashKey[dict[str, Any]]()
SELECTED = pytest.StashKey[list[str]]()
WRITTEN = pytest.StashKey[Path]()
"""The report of this run, once there is one."""

# tests of a variant by their ids: of one cell of the matrix, and of all of it
CELL = re.compile(r"test_parity\[(?P<variant>\w+)-(?P<device>[\w:]+)-(?P<dtype>\w+)-(?P<attention>.+?)\]$")
WHOLE = re.compile(r"test_restore\[(?P<variant>\w+)\]$")


def keep_for_report(test: pytest.Item, subject: Subject, cell: MatrixVerdict) -> None:
    """Keep what a test found, if a report was asked for; with pictures, once a variant. JUnit has the card's digest."""
    if subject.request.report is None and not test.config.getoption("xmlpath", None):
        return
    card = build_parity_card(subject.converted, subject.provenance, (cell,), subject.hashes)
    test.user_properties.append(("digest", card["digest"]))
    if subject.request.report is None:
        return
    test.stash[FOUND] = {"card": card, "pictures": []}
    if not subject.is_pictured:
        subject.is_pictured = True
        pictures = take_what_can_be(subject, (cell.device, cell.dtype, cell.attention))
        test.stash[FOUND]["pictures"] = [asdict(picture) for picture in pictures]


def find_lost_exactness(subject: Subject, cell: MatrixVerdict) -> str | None:
    """That a cell is close and is on record as exact on this kind of processor, in words; close is the same model."""
    if cell.verdict is Verdict.EXACT:
        return None
    device, processor = torch.device(cell.device).type, torch.backends.cpu.get_cpu_capability()
    place = device, cell.dtype, cell.attention
    family = subject.family
    if place not in family.exact or not was_exact(subject.variant, family.name, "/".join(place), processor):
        return None
    return f"{LOST_EXACTNESS} on {processor}; here it is close, and --require-exact is given"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
    report: pytest.TestReport = yield
    if FOUND in item.stash and report.when == "call":
        report.parity_found = json.dumps(item.stash[FOUND])  # type: ignore[attr-defined] # as pytest-xdist can send it
        del item.stash[FOUND]
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    """Take away the page of an earlier run: if this one is killed, it is not to be taken for this one's."""
    path = session.config.option.parity_report
    if path and not hasattr(session.config, "workerinput"):
        try:
            path.unlink(missing_ok=True)
            find_record(path).unlink(missing_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"--parity-report {path}: an earlier one cannot be replaced: {error}") from error


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[SELECTED] = [item.nodeid for item in session.items]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    node.config.stash[SELECTED] = list(ids)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    path, status = session.config.option.parity_report, pytest.ExitCode.OK
    is_run = not hasattr(session.config, "workerinput") and not session.config.option.collectonly
    if path and is_run:
        status = _write(path, session.config)
    yield
    session.exitstatus = session.exitstatus or status


def _write(path: Path, config: pytest.Config) -> pytest.ExitCode:
    """Write report and record, both or neither, if there is anything to report; the status for what went wrong."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    try:
        record = collect(reporter, config)
        if record.results:
            _write_both(record, path)
            config.stash[WRITTEN] = path
    except ArtifactError as error:
        reporter.write_line(f"\n--parity-report {error}", red=True)
        return pytest.ExitCode.TESTS_FAILED
    except Exception as error:  # the tests' own verdict, and what they keep, are not to be lost with it
        reporter.write_line(f"\n--parity-report {path}: {error!r}", red=True)
        return pytest.ExitCode.INTERNAL_ERROR
    return pytest.ExitCode.OK


def _write_both(record: Record, path: Path) -> None:
    write_report(record, path)
    try:
        with explain_writing(find_record(path)):
            write_record(record, find_record(path))
    except ArtifactError:
        path.unlink(missing_ok=True)
        raise


def check_report(path: Path | None) -> None:
    """Refuse what no report can be written to, before anything is run.

    Raises:
        ArtifactError: as :func:`check_place`; or where its record is to lie, beside it, something else does.
    """
    if path is None:
        return
    check_place(path, "--parity-report")
    record = find_record(path)
    try:
        is_ours = not record.exists() or json.loads(record.read_text(encoding="utf-8"))["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise ArtifactError(f"--parity-report {path}: its record would replace {record}, which is another file.")


def find_record(report: Path) -> Path:
    """Where the record of a run lies: beside its report."""
    return report.with_suffix(".json")


def collect(reporter: pytest.TerminalReporter, config: pytest.Config) -> Record:
    """What all tests of variants came to; those that were selected and have not run are failed."""
    origin, of_test = describe_request(config.option), group_reports(reporter, config)
    results = {
        test: _collect_cell(found.groupdict(), origin, phases)
        for test, phases in of_test.items()
        if (found := CELL.search(test))
    }
    for test, phases in of_test.items():
        for report in phases:
            if report.failed and (found := WHOLE.search(test)):
                _fail_all(results, found["variant"], origin, f"{test}\n{report.longreprtext}")
    return Record((describe_command(config),), tuple(results.values()))


def group_reports(reporter: pytest.TerminalReporter, config: pytest.Config) -> dict[str, list[pytest.TestReport]]:
    """Each test that was selected, to what pytest reported of its phases: nothing, where it did not run."""
    grouped: dict[str, list[pytest.TestReport]] = {strip_group(test): [] for test in config.stash.get(SELECTED, [])}
    for report in (each for found in reporter.stats.values() for each in found):
        if isinstance(report, pytest.TestReport):
            grouped.setdefault(strip_group(report.nodeid), []).append(report)
    return grouped


def strip_group(test: str) -> str:
    """A test's id as it is without pytest-xdist."""
    return re.sub(r"\]@.*$", "]", test)


def _collect_cell(place: dict[str, Any], origin: str, reports: Iterable[pytest.TestReport]) -> Result:
    """What came of one test in all its phases."""
    content = {**place, "origin": origin, "seconds": None, "message": "", "card": None, "pictures": []}
    has_run = False
    for report in reports:
        content |= json.loads(getattr(report, "parity_found", "{}"))
        if report.failed:
            content["message"] += report.longreprtext
        if report.when == "call":
            content["seconds"], has_run = report.duration, True
    if content["card"]:
        content["origin"] = describe_origin(content["card"])
    if not has_run and not content["message"]:
        content["message"] = NOT_RUN
    return read_result(content)


def _fail_all(results: dict[str, Result], variant: str, origin: str, message: str) -> None:
    """A test of a variant as a whole has failed: none of its cells has passed."""
    failed = {test: result for test, result in results.items() if result.variant == variant}
    for test, result in failed.items():
        results[test] = replace(result, message="\n".join(filter(None, [message, result.message])))
    if not failed:
        results[variant] = Result(variant, ANY, ANY, ANY, origin, message=message)


def describe_request(option: Any) -> str:
    """Where all weights of this run come from, as cards have it."""
    if option.checkpoint:
        return name_origin("checkpoint", None, [option.checkpoint.name])
    return name_origin(option.weights, option.seed, [])


def describe_command(config: pytest.Config) -> str:
    """The command line, without what is secret in addresses."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", shlex.join(["pytest", *config.invocation_params.args]))
