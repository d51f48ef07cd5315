"""``vision-parity diff``, on artifacts as ``convert`` leaves them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conversion.artifact.card import digest_of
from conversion.artifact.card_points import COLUMNS, read_points
from conversion.cli.app import main
from conversion.parity.verify import find_error_ratio
from conversion.report.records import Record, gather, write_record
from tests.support.verified import edit

WORSE = 1.6


def worsen(card: dict[str, Any]) -> None:
    """Enlarge every error of a close cell, to what is close still; under another torch."""
    card["versions"]["torch"] = "2.99.0"
    at = COLUMNS.index("converted_error.rms")
    for result in card["activations"][0]["inputs"]:
        for row in result["points"]:
            if isinstance(row, list):
                row[at] = float(f"{row[at] * WORSE:.6g}")
        result["error_ratio"] = find_error_ratio(read_points(result["points"], "float32"))


@pytest.fixture
def runs(made: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of artifacts, of which the second has larger errors under another torch."""
    for name in ("before", "now"):
        shutil.copytree(made["dinov2_tiny_reg"], tmp_path / name / "deep" / "tiny")
    edit(tmp_path / "now" / "deep" / "tiny", worsen)
    return tmp_path / "before", tmp_path / "now"


def test_the_same_folder_has_not_changed(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    before, _ = runs
    assert main(["diff", str(before), str(before)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Nothing changed in the 2 cells that were compared.\n")
    assert captured.err == ""


def test_larger_errors_are_noticed_in_every_form(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, now = map(str, runs)
    assert main(["diff", before, now]) == 1
    text = capsys.readouterr().out
    assert "dinov2_custom on cpu/float32/eager, " in text
    assert "  batch_2: error ratio " in text
    assert "  torch 2.99.0, was " in text
    assert "cpu/float32/sdpa" not in text
    assert main(["diff", before, now, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["same"] is False
    assert content["compared"] == 2
    (of_batch,) = (change for change in content["changes"] if change["input"] == "batch_2")
    assert (of_batch["what"], of_batch["now"] > 1.5 * of_batch["before"]) == ("error ratio", True)
    assert main(["diff", before, now, "--markdown"]) == 1
    assert "| torch | " in capsys.readouterr().out


def test_the_record_of_a_run_is_compared_like_its_artifacts(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, now = runs
    results = [
        replace(each, card={**each.card, "digest": digest_of(each.card)})
        for each in gather([before]).results
        if each.card
    ]
    crashed = replace(results[0], card=None, message="E   MemoryError: no room")
    write_record(Record(results=(crashed, results[1])), tmp_path / "report.json")
    assert main(["diff", str(before), str(tmp_path / "report.json")]) == 1
    assert "\n  test: failed (MemoryError: no room), before: passed\n" in capsys.readouterr().out
    write_record(Record(results=tuple(results)), tmp_path / "report.json")
    assert main(["diff", str(tmp_path / "report.json"), str(before)]) == 0
    assert main(["diff", str(tmp_path / "report.json"), str(now)]) == 1


def test_a_baseline_is_written_and_held_against(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, now = map(str, runs)
    baseline = str(tmp_path / "new" / "verdicts.json")
    assert main(["diff", before, before, "--write", baseline, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["same"] is True
    assert captured.err.startswith(f"{baseline}: 2 cells on ")
    assert main(["diff", baseline, before]) == 0
    assert main(["diff", baseline, now]) == 1
    assert main(["diff", baseline, now, "--write", baseline]) == 1
    assert main(["diff", baseline, now]) == 0


def test_what_cannot_be_compared_is_told_once(
    made: dict[str, Path], runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, now = map(str, runs)
    (tmp_path / "verdicts.json").write_text('{"schema": "parity-verdicts/2"}')
    (tmp_path / "empty").mkdir()
    edit(runs[1] / "deep" / "tiny", lambda card: card.update(verdict="exact"))
    for arguments, reason in (
        ((str(tmp_path / "verdicts.json"), before), "'processors' is a required property"),
        ((before, str(tmp_path / "empty")), "nothing was recorded there"),
        ((str(tmp_path / "absent"), before), "there is no such file or folder"),
        ((before, now), "contradicts itself"),
        ((before, str(made["data2vec_vision_tiny_ade20k"])), "no variant was run in the same cell in both"),
        ((before, before, "--json", "--markdown"), "give one of them"),
    ):
        written = str(tmp_path / "written.json")
        assert main(["diff", *arguments, "--write", written]) == 2
        captured = capsys.readouterr()
        assert reason in captured.err
        assert captured.err.count(reason) == 1
        assert captured.out == ""
        assert not (tmp_path / "written.json").exists()
