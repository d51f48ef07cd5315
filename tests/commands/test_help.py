"""What the command says of itself: its help, its version, and what a shell offers while one types."""

from pathlib import Path

import pytest

import conversion
from conversion.cli.app import app, main
from conversion.families.variants import VARIANTS


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in app.registered_commands])
def test_help_is_short(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) < 25
    assert any(f"vision-parity {command} " in line or f"vision-parity {command}" in line for line in shown)


@pytest.mark.parametrize("command", ["convert", "compare", "inspect", "verify"])
def test_rarer_options_are_shown_where_asked_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    short = capsys.readouterr().out
    assert main([command, "--help-all"]) == 0
    whole = capsys.readouterr().out
    rare = "--floor-max-ulp" if command == "verify" else "--linear-head-entry"
    assert (rare in short, rare in whole, "--help-all" in short) == (False, True, True)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vision-parity {conversion.__version__}\n"


def test_a_shell_offers_variants_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dinov2_vits14.pth").touch()
    (tmp_path / "dinov2_vits14_mine").mkdir()
    monkeypatch.setenv("_VISION_PARITY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "2")

    def offer(begun: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", f"vision-parity convert {begun}")
        main([])
        return capsys.readouterr().out.split()

    variants = [name for name in VARIANTS if name.startswith("dinov2_vits14")]
    assert offer("dinov2_vits") == [*variants, "dinov2_vits14.pth", "dinov2_vits14_mine/"]
    assert offer("./dinov2_vits14_") == ["./dinov2_vits14_mine/"]
