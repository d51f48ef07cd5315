"""What a user should know is said once, and so is why nothing is converted."""

from pathlib import Path

import pytest
import torch

from conversion.cli.app import main
from conversion.families.told import write_value
from tests.support.commands import ROOT, run
from tests.support.golden import list_options, read_golden
from tests.support.switched import MODELS, tell, write

TOLD = list_options("dinov2_tiny")
PARITY = str(ROOT / "tests" / "parity")


def write_two(path: Path) -> None:
    backbone = read_golden("dinov2_tiny").backbone
    torch.save({"model": {key: tensor + 1 for key, tensor in backbone.items()}, "ema_model": backbone}, path)


def write_broken(path: Path) -> None:
    torch.save({key: tensor for key, tensor in read_golden("dinov2_tiny").backbone.items() if key != "norm.bias"}, path)


def test_where_transformers_does_nothing_otherwise_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = MODELS["five channels, registers"]
    monkeypatch.chdir(tmp_path)
    options = [f"--{name.replace('_', '-')}={write_value(value)}" for name, value in tell(spec).items()]
    assert main(["convert", str(write(spec, tmp_path)), "-o", "model", *options]) == 0
    assert "What transformers does otherwise\n  nothing\n" in capsys.readouterr().out


def test_a_command_warns_once_and_shows_no_line_of_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_two(Path("two.pth"))
    assert main(["convert", "two.pth", "-o", "converted", *TOLD]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "warning: two.pth: entry ['ema_model'] taken; not 'model', which also holds a",
        "  model (--entry to choose)",
    ]
    assert "entry" not in said.out


def test_a_run_of_pytest_says_it_among_the_remarks(tmp_path: Path) -> None:
    write_two(tmp_path / "tiny.pth")
    status, output = run(tmp_path, "--checkpoint", "tiny.pth", *TOLD, PARITY)
    assert status == 0, output
    assert output.count("not 'model', which also holds a model") == 1
    assert "dinov2_custom: entry ['ema_model'] taken; not 'model'" in output
    assert "Warning" not in output


@pytest.mark.parametrize("named", [(), ("-k", "dinov2_vits14")])
def test_a_refusal_is_said_once_and_not_once_a_test(named: tuple[str, ...], tmp_path: Path) -> None:
    write_broken(tmp_path / "tiny.pth")
    status, output = run(tmp_path, "--checkpoint", "tiny.pth", *(TOLD if not named else ()), PARITY, *named)
    assert status == pytest.ExitCode.USAGE_ERROR, output
    assert output.count("problem(s) with its tensors") == 1
    assert "FAILED" not in output


def test_a_value_that_is_no_number_is_said_once(tmp_path: Path) -> None:
    broken = read_golden("dinov2_tiny").backbone | {"norm.bias": torch.full((32,), torch.nan)}
    torch.save(broken, tmp_path / "tiny.pth")
    status, output = run(tmp_path, "--checkpoint", "tiny.pth", *TOLD, PARITY)
    assert status == pytest.ExitCode.USAGE_ERROR, output
    assert output.count("norm.bias: 32 of 32 values are NaN or Inf") == 1
