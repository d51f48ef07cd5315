"""Under GitHub Actions and with ``--junit-xml``: each run is shown once, by the process that the user started."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from conversion.cli.app import main
from conversion.suite.workflow_commands import ACTIONS, SUMMARY
from tests.support.commands import ALSO_BY_WORKERS, FAILING, NO_CONVERSION, NO_WAY_BACK, RESTORING, TINY, WRONG_EPS, run
from tests.support.golden import list_options

OPTIONS = list_options("dinov2_tiny")


def run_in_github(here: Path, *options: str, plugin: str = "") -> tuple[int, list[str], str]:
    """Run pytest as a step does.

    Returns:
        its exit status, the workflow commands that it wrote, and its summary.
    """
    path = here / "summary.md"
    code, output = run(here, *TINY, *options, plugin=plugin, **{ACTIONS: "true", SUMMARY: str(path)})
    commands = [line for line in output.splitlines() if line.startswith("::")]
    return code, commands, path.read_text() if path.exists() else ""


@ALSO_BY_WORKERS
def test_a_run_appends_one_table(workers: tuple[str, ...], here: Path) -> None:
    code, commands, summary = run_in_github(here, "--save-artifacts", *workers)
    assert (code, commands) == (0, [])
    assert summary.count("### Parity: 1 model, none failed") == summary.count("###") == 1
    rows = [line.strip("| ").split(" | ") for line in summary.splitlines() if line.startswith("| dinov2_custom")]
    assert [row[:4] for row in rows] == [["dinov2_custom", "cpu", "float32", name] for name in ("eager", "sdpa")]
    assert {row[-1] for row in rows} == {"artifacts/dinov2_custom"}
    assert {row[-2] for row in rows} == {"position-embeddings-offset"}
    assert re.fullmatch(r"[\d.]+", rows[0][-3])  # seconds
    assert "- position-embeddings-offset (" in summary


def test_a_variant_that_failed_has_an_annotation(here: Path) -> None:
    code, commands, summary = run_in_github(here, "-n", "1", plugin=WRONG_EPS)
    assert code == pytest.ExitCode.TESTS_FAILED
    (command,) = commands
    place = "file=tests/parity/test_parity.py,title=dinov2_custom failed (cpu%2C float32%2C eager)"
    assert command.startswith(f"::error {place}::dinov2_custom (cpu, float32, eager): not the same model.%0A")
    assert "layer norm eps" in command
    assert "### Parity: 1 of 1 model failed\n" in summary
    assert "    dinov2_custom (cpu, float32, eager): not the same model.\n" in summary


@pytest.mark.parametrize(
    ("plugin", "options", "said"),
    [(NO_CONVERSION, (), "no way to convert this"), (NO_WAY_BACK, (RESTORING, "-k", "test_restore"), "assert")],
    ids=["not converted", "not restored"],
)
def test_what_compared_nothing_is_in_the_table_too(
    plugin: str, options: tuple[str, ...], said: str, here: Path
) -> None:
    code, (command,), summary = run_in_github(here, *options, plugin=plugin)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert said in command
    assert "| dinov2_custom | " in summary
    assert "**failed**" in summary


def test_what_was_not_run_is_called_that(here: Path) -> None:
    code, commands, summary = run_in_github(here, "-x", plugin=FAILING)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert len(commands) == 1
    assert "| sdpa | not run |" in summary


def test_what_runs_nothing_appends_nothing(here: Path) -> None:
    assert run_in_github(here, "--collect-only") == (0, [], "")


def read_properties(path: Path) -> dict[str, dict[str, str]]:
    """Attention to the properties of its test."""
    return {
        case.attrib["name"].split("]")[0].split("-")[-1]: {
            each.attrib["name"]: each.attrib["value"] for each in case.iter("property")
        }
        for case in ET.parse(path).iter("testcase")
    }


@pytest.mark.parametrize("options", [("-n", "1"), ("-o", "junit_family=xunit2")], ids=["by a worker", "xunit2"])
def test_properties_of_junit_are_short(options: tuple[str, ...], here: Path) -> None:
    files = ("--junit-xml=report.xml", "--parity-report=report.html")
    code, output = run(here, *TINY, *files, *options, "-Werror::pytest.PytestWarning")
    assert code == 0, output
    found = read_properties(here / "report.xml")
    assert sorted(found) == ["eager", "sdpa"]
    cards = {each["attention"]: each["card"] for each in json.loads((here / "report.json").read_text())["results"]}
    for attention, properties in found.items():
        assert list(properties) == ["verdict", "worst_point", "error_ratio", "digest"]
        assert properties["verdict"] == cards[attention]["verdict"]
        assert 1 <= float(properties["error_ratio"]) < 2
        assert properties["digest"] == cards[attention]["digest"]
    assert found["sdpa"]["worst_point"] == ""


def test_a_failed_test_has_them_too(here: Path) -> None:
    code, _ = run(here, *TINY, "--attention=sdpa", "--junit-xml=report.xml", plugin=FAILING)
    assert code == pytest.ExitCode.TESTS_FAILED
    properties = read_properties(here / "report.xml")["sdpa"]
    assert properties["verdict"] == "failed"
    assert " block." in properties["worst_point"]
    assert float(properties["error_ratio"]) > 2
    assert len(properties["digest"]) == 64


def test_json_of_a_command_stays_json(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv(ACTIONS, "true")
    monkeypatch.setenv(SUMMARY, "summary.md")
    assert main(["convert", "tiny.pth", "-o", "out", "--json", *OPTIONS]) == 0
    written = capsys.readouterr()
    assert json.loads(written.out)["same"] is True
    assert written.err == ""
    summary = (here / "summary.md").read_text()
    assert "| dinov2_custom | cpu | float32 | sdpa | exact | 1.00 | position-embeddings-offset, " in summary
    # another model: the original's own weights are changed after it was converted
    import torch

    changed = torch.load(here / "tiny.pth", weights_only=True)
    changed["norm.weight"] = changed["norm.weight"] * 2
    torch.save(changed, here / "other.pth")
    assert main(["compare", "other.pth", "out", "--json", *OPTIONS]) == 1
    written = capsys.readouterr()
    assert json.loads(written.out)["same"] is False
    assert written.err.startswith("::error file=other.pth,title=dinov2_custom failed")
    assert "**failed**" in (here / "summary.md").read_text()
    assert main(["convert", "absent.pth", "--json"]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert "\n::error title=vision-parity::absent.pth" in written.err


def test_artifacts_that_are_refused_have_annotations(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ACTIONS, "true")
    monkeypatch.setenv(SUMMARY, str(tmp_path / "summary.md"))
    sound, empty = made["dinov2_tiny"], tmp_path / "empty"
    empty.mkdir()
    assert main(["verify", str(sound), str(empty)]) == 2
    lines = capsys.readouterr().err.splitlines()
    (command,) = [line for line in lines if line.startswith("::")]
    assert command.startswith(f"::error file={empty},title={empty} failed::")
    summary = (tmp_path / "summary.md").read_text()
    assert "### Parity: 1 of 2 models failed" in summary
    assert f"| {sound} |" in summary
