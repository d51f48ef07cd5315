"""``--parity-report``: what is found goes into one page, from any worker, whatever becomes of the tests."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conversion.errors import ArtifactError
from conversion.parity.verdict import Verdict
from conversion.report.records import Record, Result, gather
from conversion.state_dicts.folder import PARITY_CARD
from conversion.suite.reporting import describe_command, describe_request
from tests.support.commands import ALSO_BY_WORKERS, FAILING, NO_CONVERSION, NO_WAY_BACK, RESTORING, TINY, WRONG_EPS, run

REPORT = ("--parity-report", "out/report.html")

CRASHING = """
import os, conversion.suite.cells as cells
verify = cells.verify_cell
def crash(subject, cell):
    if cell[2] == "sdpa":
        os._exit(9)
    return verify(subject, cell)
cells.verify_cell = crash
"""

NO_ROOM = """
import conversion.report.render as render
def write_whole(path, text):
    raise OSError(28, "No space left on device")
render.write_whole = write_whole
"""


def read_results(here: Path) -> dict[str, Result]:
    """Of a run: attention to result."""
    return {result.attention: result for result in gather([here / "out"]).results}


@ALSO_BY_WORKERS
def test_a_run_leaves_a_page_and_its_record(workers: tuple[str, ...], here: Path) -> None:
    code, output = run(here, *TINY, "--linear-head=head.pth", *REPORT, "--save-artifacts", *workers)
    assert code == 0, output
    assert f"report: {here / 'out' / 'report.html'}" in output
    assert sorted(path.name for path in (here / "out").iterdir()) == ["report.html", "report.json"]
    record = gather([here / "out"])
    assert record.commands[0].startswith("pytest ")
    assert "--linear-head=head.pth" in record.commands[0]
    results = {result.attention: result for result in record.results}
    assert list(results) == ["eager", "sdpa"]
    assert all(result.seconds and not result.message for result in results.values())
    titles = [[picture.title.split()[0] for picture in result.pictures] for result in results.values()]
    assert titles == [["Pixels,", "Patch", "Attention", "Most"], []]  # once a variant
    page = (here / "out" / "report.html").read_text()
    assert page.count("data:image/png") == 9
    assert "tiny.pth" in page
    # the artifact's own card tells the same
    together = gather([here / "out", here / "artifacts"])
    assert len(together.results) == 2


def without_activations(card: Any) -> dict[str, Any]:
    return {name: value for name, value in card.items() if name not in ("activations", "verdict", "digest")}


def test_the_record_of_each_cell_is_the_artifacts_card(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "--save-artifacts")
    assert code == 0, output
    card = json.loads((here / "artifacts" / "dinov2_custom" / PARITY_CARD).read_text())
    for result, cell in zip(read_results(here).values(), card["activations"], strict=True):
        assert result.card
        assert without_activations(result.card) == without_activations(card)
        assert result.card["activations"] == [cell]


def test_what_fails_is_reported_with_its_figures_and_why(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, plugin=WRONG_EPS)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "report: " in output
    for result in read_results(here).values():
        assert result.verdict is Verdict.FAILED
        assert "first at block.0.norm1" in result.message
    page = (here / "out" / "report.html").read_text()
    assert "<title>dinov2_custom failed: layer norm eps 1e-05, original 1e-06</title>" in page


def test_what_cannot_be_converted_is_reported_too(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, plugin=NO_CONVERSION)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    results = read_results(here)
    assert list(results) == ["eager", "sdpa"]
    assert all("no way to convert this" in result.message and result.card is None for result in results.values())


def test_a_variant_that_does_not_come_back_is_not_the_same(here: Path) -> None:
    """The test of the way back is no cell of the matrix, and decides over all of them."""
    code, output = run(here, *TINY, *REPORT, RESTORING, plugin=NO_WAY_BACK)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 2 passed" in output
    for result in read_results(here).values():
        assert result.verdict is Verdict.FAILED
        assert "test_restore" in result.message
        assert result.card
    code, output = run(here, *TINY, *REPORT, RESTORING, "-k", "test_restore", plugin=NO_WAY_BACK)
    assert list(read_results(here)) == ["any"]


STOPPING = """
import pytest
def pytest_runtest_setup(item):
    if "sdpa" in item.name:
        pytest.exit("enough")
"""


@pytest.mark.parametrize(
    ("plugin", "options"), [(STOPPING, ()), (FAILING, ("-x",))], ids=["Ctrl-C", "after the first failure"]
)
def test_what_was_not_run_is_not_called_the_same(plugin: str, options: tuple[str, ...], here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, *options, plugin=plugin)
    assert code != 0, output
    results = read_results(here)
    assert results["sdpa"].verdict is Verdict.FAILED
    assert "was not run" in results["sdpa"].message
    assert results["eager"].card


def test_a_killed_run_leaves_no_page_of_an_earlier_one(here: Path) -> None:
    assert run(here, *TINY, *REPORT, "--attention=sdpa")[0] == 0
    assert (here / "out" / "report.html").exists()
    code, _ = run(here, *TINY, *REPORT, plugin=CRASHING)  # without workers it is the end of all
    assert code == 9
    assert not any((here / "out").iterdir())


NO_PICTURES = """
import conversion.suite.pictures as pictures
def take(*_):
    raise ValueError("shapes differ")
pictures.take_pictures = take
"""


def test_pictures_that_cannot_be_taken_are_no_verdict(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, plugin=NO_PICTURES)
    assert code == 0, output
    shown = [[picture.title for picture in result.pictures] for result in read_results(here).values()]
    assert shown == [["No pictures"], []]
    assert "shapes differ" in (here / "out" / "report.html").read_text()


def test_a_folder_is_reported_as_what_it_is(here: Path) -> None:
    assert run(here, *TINY, "--save-artifacts")[0] == 0
    code, output = run(here, "--checkpoint=artifacts/dinov2_custom", *REPORT)
    assert code == 0, output
    for result in read_results(here).values():
        assert result.card
        assert any("consistent with itself" in note for note in result.card["notes"])


def test_a_worker_that_crashes_is_reported(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "-n", "1", plugin=CRASHING)
    assert code != 0
    results = read_results(here)
    assert "crashed while running" in results["sdpa"].message
    assert results["sdpa"].card is None
    assert results["eager"].verdict is not Verdict.FAILED, output


def test_a_report_that_cannot_be_written_is_an_error_and_no_test_less(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "--save-artifacts", plugin=NO_ROOM)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert output.count("report.html: cannot be written: No space left on device. Free some space") == 1
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
    assert "2 passed" in output
    assert not list((here / "out").iterdir())
    assert (here / "artifacts" / "dinov2_custom" / PARITY_CARD).exists()


BREAKING = """
import conversion.suite.reporting as reporting
def collect(*_):
    raise RuntimeError("a bug")
reporting.collect = collect
"""

STAYING = """
import pathlib
unlink = pathlib.Path.unlink
def refuse(path, **options):
    if path.name == "report.html":
        raise PermissionError(13, "Permission denied", path.name)
    unlink(path, **options)
pathlib.Path.unlink = refuse
"""


def test_what_breaks_in_a_report_takes_no_artifact_with_it(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "--attention=sdpa", "--save-artifacts", plugin=BREAKING)
    assert code == pytest.ExitCode.INTERNAL_ERROR
    assert "--parity-report out/report.html: RuntimeError('a bug')" in output
    assert "1 passed" in output
    assert (here / "artifacts" / "dinov2_custom" / PARITY_CARD).exists()


def test_where_an_earlier_page_stays_nothing_is_run(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, plugin=STAYING)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "--parity-report out/report.html: an earlier one cannot be replaced: " in output
    assert "passed" not in output


def test_without_the_option_nothing_is_recorded(here: Path) -> None:
    code, output = run(here, *TINY, "--attention=sdpa")
    assert code == 0, output
    assert "report:" not in output
    assert not list(here.rglob("*.html"))
    with pytest.raises(ArtifactError, match="nothing was recorded there"):
        gather([here])


@pytest.mark.parametrize("name", [".", "tiny.pth", "tiny", "file/report.html", "taken.html", "mine.html"])
def test_a_report_over_something_else_is_refused_before_anything_is_run(name: str, here: Path) -> None:
    (here / "file").write_text("mine")
    (here / "taken.html").write_text("mine")
    (here / "mine.json").write_text("{}")
    code, output = run(here, *TINY, f"--parity-report={name}")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"--parity-report {name}: " in output
    assert (here / "taken.html").read_text() == "mine"
    assert (here / "mine.json").read_text() == "{}"


ELSEWHERE = """
import conversion.suite.reporting as reporting
check = reporting.check_report
def check_once(path):
    print("CHECKED", file=open("checked.txt", "a"))
    check(path)
reporting.check_report = check_once
"""


def test_workers_on_other_hosts_need_no_place_for_it(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "--attention=sdpa", "-n", "1", plugin=ELSEWHERE)
    assert code == 0, output
    assert (here / "checked.txt").read_text() == "CHECKED\n"


def test_secrets_in_addresses_are_not_reported() -> None:
    arguments = ("--mirror", "https://me:secret@example.com/x", "-k", "a or b")
    config: Any = SimpleNamespace(invocation_params=SimpleNamespace(args=arguments))
    assert describe_command(config) == "pytest --mirror https://example.com/x -k 'a or b'"


def test_where_weights_come_from_is_told_before_a_card_is(tmp_path: Path) -> None:
    mine = SimpleNamespace(checkpoint=tmp_path / "mine.pth", weights="synthetic", seed=3)
    assert describe_request(mine) == "mine.pth"
    drawn = SimpleNamespace(checkpoint=None, weights="synthetic", seed=3)
    assert describe_request(drawn) == "random weights, seed 3"


def test_a_run_without_variants_writes_no_report(here: Path) -> None:
    code, _ = run(here, *TINY, *REPORT, "-k", "nothing_of_that_name")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not any((here / "out").iterdir())


def test_runs_come_together(here: Path) -> None:
    for attention in ("eager", "sdpa"):
        code, output = run(here, *TINY, f"--attention={attention}", f"--parity-report=out/{attention}.html")
        assert code == 0, output
    record: Record = gather([here / "out"])
    assert len(record.commands) == len(record.results) == 2
