"""What a card and a run say of an export, and what is made of it: whose loss it is, and whose verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from conversion.cli.app import main
from conversion.suite.inputs import open_photo
from tests.support.commands import TINY, run
from tests.support.golden import list_options
from tests.support.verified import edit


@pytest.fixture(autouse=True)
def stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def convert(*others: str) -> int:
    """Convert the tiny model, with an export for torch; the exit status."""
    return main(["convert", "tiny.pth", "-o", "mine", *list_options("dinov2_tiny"), "--export", "torch", *others])


@pytest.mark.parametrize("side", ["70", "98"])
def test_an_exact_export_is_alike_on_pictures_whatever_transformers_does_otherwise(side: str) -> None:
    """At 98 pixels transformers resamples position embeddings otherwise."""
    Path("pictures").mkdir()
    open_photo().save("pictures/photo.png")
    others = ("--input-size", side, "--pictures", "pictures", "--require", "cosine=0.999999")
    assert convert(*others) == 0
    (cell,) = json.loads(Path("mine/parity.json").read_text())["exports"]
    assert cell["verdict"] == "exact"
    assert cell["exported"]["pictures"]["likeness"]["returned.last_hidden_state"] == [pytest.approx(1, abs=1e-6)]


def fail_export(card: dict[str, Any]) -> None:
    """With figures that go together: nothing returned was a number."""
    cell = card["exports"][0]
    cell["verdict"], cell["inputs"] = "failed", cell["inputs"][:1]
    for result in cell["inputs"]:
        names = [point if isinstance(point, str) else point[0] for point in result["points"]]
        result["points"] = [[name, "failed", *[None] * 13, "NaN"] for name in names]
        result |= {"verdict": "failed", "deviation": None, "max_abs": None, "error_ratio": 1.0}


def call_an_export_an_attention(card: dict[str, Any]) -> None:
    """So that no points within blocks would be asked for."""
    ends = {point if isinstance(point, str) else point[0] for point in card["exports"][0]["inputs"][0]["points"]}
    cell = next(cell for cell in card["activations"] if cell["verdict"] == "exact")
    cell["exported"] = card["exports"][0]["exported"]
    cell["inputs"] = [result for result in cell["inputs"] if "otherwise" not in result]
    for result in cell["inputs"]:
        result["points"] = [point for point in result["points"] if point in ends]
    card["activations"], card["verdict"] = [cell], "exact"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fail_export, "its export to torch is not the same model"),
        (call_an_export_an_attention, "cpu, float32, sdpa: an export, among activations"),
    ],
)
def test_a_card_that_says_less_of_an_export_or_more_of_the_model_is_not_verified(
    change: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert() == 0
    assert main(["verify", "mine"]) == 0
    edit(Path("mine"), change)
    capsys.readouterr()
    assert main(["verify", "mine"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  - ")]
    assert [said in line for line in errors] == [True]


def test_an_export_alone_keeps_nothing_and_is_not_called_the_model(here: Path) -> None:
    code, output = run(here, *TINY, "--save-artifacts", "--export=torch", "-k", "torch")
    assert code == 0, output
    assert "exports alone were verified, and nothing was kept: dinov2_custom" in output
    assert "the same model" not in output
    assert not list(here.glob("artifacts/*"))
