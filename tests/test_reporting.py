"""``--parity-report``: what is found goes into one page, from any worker, whatever becomes of the tests."""

import json
from pathlib import Path
from typing import Any

import pytest

from conversion.errors import ArtifactError
from conversion.loading import PARITY_CARD
from conversion.parity.verdict import Verdict
from conversion.report.records import Record, Result, gather
from tests.test_options import TINY, WRONG_EPS, run

REPORT = ("--parity-report", "out/report.html")

CRASHING = """
import os, tests.cells as cells
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


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
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
        assert "first at block.0.norm1" in result.message or "layer_norm_eps" in result.message
    page = (here / "out" / "report.html").read_text()
    assert "1 of 1 models is not shown to be the same model" in page


def test_what_cannot_be_converted_is_reported_too(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "--labels=labels.txt", plugin="open('labels.txt', 'w').write('a b')")
    assert code != 0
    if (here / "out").exists():
        assert all(result.verdict is Verdict.FAILED for result in read_results(here).values()), output


def test_a_worker_that_crashes_is_reported(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "-n", "1", plugin=CRASHING)
    assert code != 0
    results = read_results(here)
    assert "crashed while running" in results["sdpa"].message
    assert results["sdpa"].card is None
    assert results["eager"].verdict is not Verdict.FAILED, output


def test_a_report_that_cannot_be_written_is_an_error_and_no_test_less(here: Path) -> None:
    code, output = run(here, *TINY, *REPORT, "--save-artifacts", plugin=NO_ROOM)
    assert code != 0
    assert "No space left on device" in output
    assert "2 passed" in output
    assert not list((here / "out").glob("*.html"))
    assert (here / "artifacts" / "dinov2_custom" / PARITY_CARD).exists()


def test_without_the_option_nothing_is_recorded(here: Path) -> None:
    code, output = run(here, *TINY, "--attention=sdpa")
    assert code == 0, output
    assert "report:" not in output
    with pytest.raises(ArtifactError):
        gather([here])


def test_a_report_over_a_folder_is_refused_before_anything_is_run(here: Path) -> None:
    code, output = run(here, *TINY, "--parity-report", ".")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "--parity-report" in output


def test_a_run_without_variants_writes_no_report(here: Path) -> None:
    code, _ = run(here, *TINY, *REPORT, "-k", "nothing_of_that_name")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not (here / "out").exists()


def test_runs_come_together(here: Path) -> None:
    for attention in ("eager", "sdpa"):
        code, output = run(here, *TINY, f"--attention={attention}", f"--parity-report=out/{attention}.html")
        assert code == 0, output
    record: Record = gather([here / "out"])
    assert len(record.commands) == len(record.results) == 2
