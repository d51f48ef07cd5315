"""A report for which there is no room: one plain line, the tests' own verdict, and nothing half written."""

from pathlib import Path

import pytest

from conversion.cli.app import main
from conversion.report import render
from conversion.report.records import Record
from tests.support.commands import FAILING, TINY, run

REPORT = ("--parity-report", "out/report.html", "--attention=sdpa")

LIMITED = """
import resource
import conversion.suite.reporting as reporting
collect = reporting.collect
def collect_and_fill(*args):
    record = collect(*args)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    return record
reporting.collect = collect_and_fill
"""

RECORD_ALONE = """
import conversion.report.records as records
def write_whole(path, text):
    raise OSError(28, "No space left on device")
records.write_whole = write_whole
"""


def check_refused(output: str, here: Path, says: str) -> None:
    assert output.count(says) == 1, output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
    assert not list((here / "out").iterdir())


@pytest.mark.parametrize("limit", [0, 4096])
def test_a_page_that_the_system_cuts_short_is_not_left(limit: int, here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, plugin=f"LIMIT = {limit}\n{LIMITED}")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "1 passed" in output
    check_refused(output, here, "report.html: cannot be written: File too large")


def test_a_record_without_room_takes_its_page_with_it(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, plugin=RECORD_ALONE)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    check_refused(output, here, "report.json: cannot be written: No space left on device")


def test_what_failed_before_stays_failed(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, plugin=FAILING + RECORD_ALONE)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "first at block.0.norm1" in output
    check_refused(output, here, "report.json: cannot be written")


def test_the_command_says_the_same(
    tmp_path: Path, gathered: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(path: Path, _: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("conversion.report.records.gather", lambda _: gathered)
    monkeypatch.setattr(render, "write_whole", fill)
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "page.html")]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"{tmp_path / 'page.html'}: cannot be written: No space left on device. Free some space")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_looked_at_is_refused_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbid(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "page.html").write_text(render.HEAD)
    monkeypatch.setattr(Path, "read_bytes", forbid)
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "page.html")]) == 2
    assert "nothing can be written there: [Errno 13]" in capsys.readouterr().err
