"""A page about one conversion or comparison, also where it is not the same model."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conversion.cli.app import main
from conversion.state_dicts.folder import CONFIG
from tests.support.golden import list_options, read_golden

SETTINGS = list_options("dinov2_tiny")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(read_golden("dinov2_tiny").backbone, "tiny.pth")
    return tmp_path


def read_heading(page: str) -> str:
    (heading,) = re.findall("<h1>(.*)</h1>", page)
    return re.sub("<[^>]*>", "", heading)


def compare(*others: str) -> int:
    return main(["compare", "tiny.pth", "mine", "--report", "page.html", *SETTINGS, *others])


def test_a_conversion_is_reported(here: Path) -> None:
    assert main(["convert", "tiny.pth", "-o", "mine", "--report", "page.html", *SETTINGS]) == 0
    page = (here / "page.html").read_text()
    assert "dinov2_custom is the same model" in page
    assert "data:image/png;base64," in page


def test_what_is_not_the_same_is_reported_with_its_cause(here: Path) -> None:
    assert main(["convert", "tiny.pth", "-o", "mine", *SETTINGS]) == 0
    config = json.loads((here / "mine" / CONFIG).read_text())
    (here / "mine" / CONFIG).write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    assert compare() == 1
    page = (here / "page.html").read_text()
    assert "is not shown to be the same model" in page
    assert "layer norm eps 1e-05, original 1e-06" in read_heading(page)
    assert "config.json: layer_norm_eps: 1e-05, expected 1e-06" in page


def test_what_does_not_run_is_reported(here: Path) -> None:
    assert main(["convert", "tiny.pth", "-o", "mine", *SETTINGS]) == 0
    weights = here / "mine" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["layernorm.weight"]
    save_file(tensors, weights, {"format": "pt"})
    assert compare() == 1
    page = (here / "page.html").read_text()
    assert "missing: layernorm.weight, from norm.weight" in read_heading(page)
    assert "Nothing was compared." in page


def test_nothing_is_compared_where_no_page_can_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "page.html").write_text("a diary")
    assert compare() == 2
    assert "--report page.html: something else lies there" in capsys.readouterr().err
    assert (here / "page.html").read_text() == "a diary"


@pytest.mark.parametrize("command", ["convert", "compare"])
def test_an_answer_does_not_wait_for_its_page(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command, "tiny.pth", *(["mine"] if command == "compare" else ["-o", "mine"])]
    assert main(["convert", "tiny.pth", "-o", "mine", *SETTINGS]) == 0

    def fill_the_disk(_path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("conversion.report.render.write_whole", fill_the_disk)
    capsys.readouterr()
    assert main([*arguments, "--report", "page.html", *SETTINGS]) == 2
    captured = capsys.readouterr()
    assert "\nThe same model" in captured.out
    assert (
        captured.err
        == "page.html: cannot be written: No space left on device. Free some space, or write it elsewhere.\n"
    )
    assert (here / "mine" / CONFIG).exists()
