"""What GitHub Actions is given: workflow commands as its runner reads them, and a summary that it takes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from conversion.suite.github import report
from conversion.suite.job_summary import FAILED, LIMIT, NOT_RUN, Row, list_rows, write_summary
from conversion.suite.rows import list_outcomes
from conversion.suite.workflow_commands import ACTIONS, SUMMARY, annotate_error, format_command, is_listening, shorten

OFFSET = "position-embeddings-offset"
PLACE = ("cpu", "float32", "eager")
EXACT = Row("dinov2_vits14", *PLACE, "exact", 1.0, "", 12.34, {OFFSET: ["224", "photo"]}, "artifacts/dinov2_vits14")
BAD = Row(
    "dinov2_vitb14", *PLACE, error_ratio=28.168, worst_point="native b", message="first at b\nfed by x", file="a.py"
)


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SUMMARY, str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


def test_commands_are_escaped_as_the_runner_reads_them() -> None:
    command = format_command("error", "50 %: a, b\r\nc", file="a,b.py", title="x: 100 %, y\nz", empty="")
    assert command == "::error file=a%2Cb.py,title=x%3A 100 %25%2C y%0Az::50 %25: a, b%0D%0Ac"
    assert format_command("notice", "done") == "::notice::done"


def test_each_failed_variant_has_one_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACTIONS, "true")
    sdpa = Row("dinov2_vitb14", "cpu", "float32", "sdpa")
    assert report([EXACT, BAD, sdpa]) == [
        "::error file=a.py,title=dinov2_vitb14 failed (cpu%2C float32%2C eager)::first at b%0Afed by x"
    ]
    assert report([sdpa])[0].endswith("::It is not shown to be the same model.")


def test_more_annotations_than_are_shown_become_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACTIONS, "true")
    *errors, last = report([Row(f"model_{number}") for number in range(13)])
    assert [line.startswith("::error ") for line in errors] == [True] * 10
    message = "3 more failed, of which GitHub shows no annotations: model_10, model_11, model_12"
    assert last == f"::notice title=More variants failed::{message}"
    assert len(report([Row(f"model_{number}") for number in range(10)])) == 10


@pytest.mark.parametrize("value", [None, "", "false", "1"])
def test_elsewhere_there_are_none(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv(ACTIONS, value)
    assert not is_listening()
    assert report([BAD]) == []
    assert annotate_error("no such file") == []


def test_what_could_not_be_done_has_an_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACTIONS, "true")
    assert annotate_error("no such file\nlook") == ["::error title=vision-parity::no such file%0Alook"]


def test_the_summary_has_failed_rows_first_and_says_why(summary: Path) -> None:
    assert report([EXACT, BAD]) == []
    _, heading, _, header, line, *rows = summary.read_text().partition("\nWhat transformers")[0].splitlines()
    assert heading == "### Parity: 1 of 2 models failed"
    names = "variant", "device", "dtype", "attention", "verdict", "error ratio", "worst point", "seconds"
    assert header == f"| {' | '.join(names)} | transformers does otherwise | artifact |"
    assert line == "|" + " --- |" * 10
    assert rows == [
        "| dinov2_vitb14 | cpu | float32 | eager | **failed** | 28.17 | native b |  |  |  |",
        f"| dinov2_vits14 | cpu | float32 | eager | exact | 1.00 |  | 12.3 | {OFFSET} | artifacts/dinov2_vits14 |",
    ]
    text = summary.read_text()
    assert f"- {OFFSET} (224, photo): position embeddings are resized" in text
    assert text.endswith("Why dinov2_vitb14 failed:\n\n    first at b\n    fed by x\n")


def test_a_summary_is_appended_and_columns_without_content_are_left_out(summary: Path) -> None:
    summary.write_text("before\n")
    report([Row("dinov2_vits14", verdict="exact"), Row("dinov2_vitb14", verdict=NOT_RUN)])
    assert summary.read_text() == (
        "before\n\n### Parity: 2 models, none failed, 1 not or not wholly run\n\n"
        "| variant | verdict |\n| --- | --- |\n| dinov2_vits14 | exact |\n| dinov2_vitb14 | not run |\n\n"
    )


def test_a_run_ends_with_what_is_the_same_model_and_what_is_not() -> None:
    """Also where a cell has not failed by its comparison, but crashed, or was not run."""
    same, itself = Row("dinov2_vits14", verdict="exact"), Row("mine", verdict="consistent with itself")
    assert list_outcomes([same, replace(same, verdict="close"), itself]) == [
        "the same model: dinov2_vits14",
        "consistent with itself: mine",
    ]
    assert list_outcomes([same, replace(same, verdict=NOT_RUN)]) == ["not verified to the end: dinov2_vits14"]
    export = Row("dinov2_vitb14", "cpu", "float32", "onnx", "close")
    assert list_outcomes([export]) == ["exports alone were verified, and nothing was kept: dinov2_vitb14"]
    model, lost = replace(export, attention="sdpa"), replace(export, verdict=FAILED, message="too lossy")
    assert list_outcomes([model, export]) == ["the same model: dinov2_vitb14"]
    refused = "an export is not what was asked for: dinov2_vitb14"
    assert list_outcomes([model, lost]) == [f"the same model, but {refused}"]
    assert list_outcomes([lost]) == [f"exports alone were verified, and nothing was kept: {refused}"]
    assert list_outcomes([replace(model, verdict=FAILED), lost]) == ["not shown to be the same model: dinov2_vitb14"]
    crashed = replace(same, verdict=FAILED, message="out of memory")
    assert list_outcomes([same, crashed, replace(same, verdict=NOT_RUN)]) == [
        "not shown to be the same model: dinov2_vits14"
    ]


def test_what_would_end_a_cell_is_escaped() -> None:
    assert "| a\\|b c &lt;d> | exact |" in write_summary([Row("a|b\nc <d>", verdict="exact")], LIMIT)


@pytest.mark.parametrize("before", [0, LIMIT // 2])
def test_a_summary_stays_below_the_limit_and_keeps_what_failed(before: int, summary: Path) -> None:
    summary.write_text("x" * before)
    rows = [Row(f"model_{number}_{'é' * 100}", *PLACE, "exact", 1.0) for number in range(5000)]
    failed = [Row(f"bad_{number}", *PLACE, message="why " * 1000) for number in range(30)]
    assert report([*rows, *failed]) == []
    assert LIMIT - 1000 < summary.stat().st_size <= LIMIT
    text = summary.read_text()
    written = text.count("\n| model_")
    assert text.count("\n| bad_") == 30
    assert f"\n{5000 - written} more rows are left out: GitHub takes 1 MiB of summary a step.\n" in text
    assert text.count("Why bad_") == 10


def test_a_summary_never_takes_more_room_than_there_is() -> None:
    for room in range(0, 1200, 7):
        assert len(write_summary([EXACT, BAD, *[EXACT] * 10], room).encode()) <= room


def test_a_full_summary_is_said(summary: Path) -> None:
    summary.write_text("x" * (LIMIT - 100))
    assert report([EXACT]) == [f"{SUMMARY}: the summary of this step is full: it has no table of this run."]
    assert summary.stat().st_size == LIMIT - 100


def test_a_summary_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUMMARY, str(tmp_path))
    assert report([EXACT]) == [f"{SUMMARY}: {tmp_path}: the table cannot be appended: Is a directory"]


def test_without_rows_nothing_is_written(summary: Path) -> None:
    assert report([]) == []
    assert not summary.exists()


def test_a_message_is_cut() -> None:
    assert shorten("a\nb\n") == "a\nb"
    assert shorten("\n".join("abcdefghijklmnopqrstuvwxyz")).splitlines()[-2:] == ["p", "..."]
    assert len(shorten("x" * 5000)) == 2004


def test_an_answer_of_a_command_becomes_rows() -> None:
    cells = [SimpleNamespace(device="cpu", dtype="float32", attention=name, verdict=verdict, error_ratio=1.5)
             for name, verdict in (("eager", "failed"), ("sdpa", "close"))]  # fmt: skip
    rows = list_rows("tiny", cells, [SimpleNamespace(name=OFFSET)], "why", file="tiny.pth")
    said = [(row.attention, row.verdict, row.message) for row in rows]
    assert said == [("eager", "failed", "why"), ("sdpa", "close", "")]
    assert list(rows[0].otherwise) == [OFFSET]
    assert rows[0].file == "tiny.pth"
    # settings that differ are no cell's failure
    whole, close = list_rows("tiny", cells[1:], [], "a setting differs")
    assert (whole.verdict, whole.attention, whole.message) == ("failed", "", "a setting differs")
    assert close.verdict == "close"
    assert [row.verdict for row in list_rows("tiny", cells[1:], [], "")] == ["close"]
