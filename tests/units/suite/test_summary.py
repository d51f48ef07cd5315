"""The table at the end of a run: a row a cell, the worst place of each, deviations with their cause."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conversion.artifact.card import MatrixVerdict
from conversion.parity.metrics import NO_DIFFERENCE, Distance
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.parity.verify import InputVerdict
from conversion.suite.summary import COLUMNS, PIPE_WIDTH, describe_cell, summarise
from tests.support.commands import ROW

OFFSET = "position-embeddings-offset"


def exact(name: str) -> PointVerdict:
    return PointVerdict(name, Verdict.EXACT, NO_DIFFERENCE)


def close(name: str, error: float) -> PointVerdict:
    """Allowed is twice the original's own error, which is 1e-6."""
    own, allowed = Distance(2e-6, 1e-6), Distance(4e-6, 2e-6)
    verdict = Verdict.CLOSE if error <= allowed.rms else Verdict.FAILED
    difference = Distance(error, error)
    return PointVerdict(name, verdict, difference, None, own, Distance(error, error), allowed)


def make_cell(*inputs: InputVerdict, attention: str = "eager") -> MatrixVerdict:
    return MatrixVerdict("cpu", "float32", attention, 0, inputs)


NATIVE = InputVerdict("native", Verdict.CLOSE, (1, 3, 8, 8), (exact("pixels"), close("a", 1e-6), close("b", 1.5e-6)))
OTHER = InputVerdict("224", Verdict.CLOSE, (1, 3, 4, 4), (close("a", 1.2e-6),), OFFSET, {"a": Distance(1.0, 1.0)})
EXACT = InputVerdict("native", Verdict.EXACT, (1, 3, 8, 8), (exact("pixels"), exact("a")))
FAILED = InputVerdict("masked", Verdict.FAILED, (1, 3, 8, 8), (exact("pixels"), close("c", 3e-6)))


def test_the_worst_place_is_that_nearest_to_what_is_allowed() -> None:
    row = describe_cell("tiny", make_cell(NATIVE, OTHER))
    assert row["worst capture point"] == "native b"
    assert (row["verdict"], row["error"]) == ("close", 1.5)
    assert row["deviations"] == {OFFSET: ["224"]}


def test_what_failed_is_worse_and_what_is_exact_has_no_worst_place() -> None:
    assert describe_cell("tiny", make_cell(NATIVE, FAILED))["worst capture point"] == "masked c"
    assert describe_cell("tiny", make_cell(EXACT))["worst capture point"] == ""


def test_where_nothing_was_measured_there_is_no_ratio() -> None:
    shapes = PointVerdict("c", Verdict.FAILED, reason="shapes (1, 2) and (1, 3)")
    other = InputVerdict("masked", Verdict.FAILED, (1, 3, 8, 8), (exact("pixels"), shapes))
    row = describe_cell("tiny", make_cell(NATIVE, other))
    assert (row["worst capture point"], row["error"]) == ("masked c", None)


class Reporter:
    """As much of pytest's reporter as is used."""

    def __init__(self, rows: list[dict[str, Any]], *, is_terminal: bool = False, **others: object) -> None:
        self.hasmarkup, self.lines = is_terminal, list[str]()
        passed = [self.report(parity_row=row) for row in rows] + [self.report(user_properties=list(others.items()))]
        self.stats = {"passed": passed, "warnings": [SimpleNamespace()]}

    @staticmethod
    def report(**content: Any) -> pytest.TestReport:
        return pytest.TestReport("test", ("file", 1, "test"), {}, "passed", None, "call", duration=1.25, **content)

    def section(self, title: str) -> None:
        self.lines.append(f"== {title}")

    def write_line(self, line: str, **_markup: bool) -> None:
        self.lines.append(line)


ROWS = [
    describe_cell("dinov2_vits14", make_cell(NATIVE, OTHER)),
    describe_cell("dinov2_vits14", make_cell(EXACT, attention="sdpa")),
    describe_cell("data2vec_vision_large_ade20k", make_cell(NATIVE, FAILED)),
]


def write(reporter: Reporter, artifacts: Path | None = None) -> str:
    summarise(reporter, artifacts)  # type: ignore[arg-type]
    return "\n".join(reporter.lines)


def test_a_pipe_gets_a_line_a_row_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    written = write(Reporter(ROWS))
    assert "\x1b" not in written
    title, header, *rows, last = written.splitlines()
    assert title == "== parity"
    assert header.split("  ")[0] == COLUMNS[0]
    assert all(len(row) < PIPE_WIDTH for row in rows)
    assert [ROW.match(row)["verdict"] for row in rows] == ["close", "exact", "failed"]  # type: ignore[index]
    assert rows[2].split()[-4:] == ["1", "s", "masked", "c"]
    assert last.startswith(f"transformers does otherwise: {OFFSET} (224): position embeddings are resized")


def test_what_is_exact_with_aligned_weights_alone_is_said_in_words() -> None:
    rows = [describe_cell("dinov2_vits14", make_cell(replace(EXACT, aligned=True), attention="sdpa")), *ROWS]
    (line,) = [line for line in write(Reporter(rows)).splitlines() if line.startswith("aligned")]
    assert line.startswith(
        "aligned dinov2_vits14 (native): bit for bit equal once the weights were copied to multiples"
    )


def test_a_terminal_gets_colours_and_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    written = write(Reporter(ROWS, is_terminal=True))
    assert "\x1b[1;31mfailed" in written
    assert "\x1b[32mexact" in written


def test_no_terminal_shortens_a_variant_or_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    written = re.sub(r"\x1b\[[\d;]*m", "", write(Reporter(ROWS, is_terminal=True)))
    table = written.splitlines()[1 : 2 + len(ROWS)]
    assert all(len(line) <= 80 for line in table)
    assert [line.split()[0] for line in table[1:]] == [row["variant"] for row in ROWS]
    assert [line.split()[4] for line in table[1:]] == ["close", "exact", "failed"]
    assert "worst capture point" not in table[0]


def test_only_artifacts_that_this_run_has_left_are_named(tmp_path: Path) -> None:
    (tmp_path / "dinov2_vits14").mkdir()  # of an earlier run
    assert write(Reporter(ROWS), tmp_path).splitlines()[-1] == f"artifacts: none, in {tmp_path}"
    reporter = Reporter(ROWS, kept="dinov2_vits14")
    assert write(reporter, tmp_path).splitlines()[-1] == f"artifacts: dinov2_vits14, in {tmp_path}"


def test_of_a_single_artifact_the_last_lines_load_it(made: dict[str, Path]) -> None:
    folder = made["dinov2_tiny"].parent
    lines = write(Reporter(ROWS, kept="dinov2_custom"), folder).splitlines()
    at = lines.index(f"artifacts: dinov2_custom, in {folder}")
    assert lines[at + 1 : at + 5] == [
        "",
        "from transformers import AutoImageProcessor, AutoModel",
        "",
        f'model = AutoModel.from_pretrained("{folder / "dinov2_custom"}", attn_implementation="sdpa")',
    ]


def test_a_run_without_comparisons_has_no_table() -> None:
    assert write(Reporter([])) == ""


def test_faults_that_nothing_noticed_are_named() -> None:
    written = write(Reporter([], faults=3, survivors=["bias zeroed"], intact_points=5, false_alarms=1))
    assert "3 faults put in, 2 noticed\nnot noticed: bias zeroed\n5 comparisons" in written
