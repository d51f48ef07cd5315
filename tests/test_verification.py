"""An artifact is verified by its card, and refused when anything about either is not right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.__main__ import main
from conversion.card import digest_of, hash_file
from conversion.errors import ArtifactError
from conversion.loading import CONFIG, PARITY_CARD
from conversion.parity.verdict import Tolerances
from conversion.verification import SCHEMA_FILE, load_validator, read_card, verify_artifact
from conversion.weights import WEIGHTS
from tests.golden import read_golden
from tests.request import Request
from tests.subject import Subject

MODELS = ("dinov2_tiny", "dinov2_tiny_reg", "data2vec_vision_tiny_ade20k")
Change = Callable[[dict[str, Any]], object]


def make_artifact(folder: Path, name: str) -> Path:
    """As ``--save-artifacts`` leaves it: verified with both attention implementations."""
    golden = read_golden(name)
    torch.save(golden.state_dict, folder / f"{name}.pth")
    request = Request(checkpoint=folder / f"{name}.pth", overrides=golden.overrides, artifacts=folder / name)
    cells = [("cpu", "float32", attention) for attention in ("eager", "sdpa")]
    subject = Subject(f"{golden.family.name}_custom", request, frozenset({"test"}), cells)
    with subject.passing("test"):
        subject.verdicts += [subject.verify(*cell) for cell in cells]
    subject.close()
    return folder / name / subject.variant


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    return {name: make_artifact(folder, name) for name in MODELS}


@pytest.fixture
def artifact(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))


def edit(artifact: Path, change: Change, *, is_renewed: bool = True) -> None:
    """Change a card; as somebody would who knows of the digest."""
    card = json.loads((artifact / PARITY_CARD).read_text())
    change(card)
    if is_renewed:
        card["digest"] = digest_of(card)
    (artifact / PARITY_CARD).write_text(json.dumps(card))


def find_point(card: dict[str, Any], verdict: str) -> dict[str, Any]:
    """The first capture point of this verdict."""
    results = (result for cell in card["activations"] for result in cell["inputs"])
    points = (point for result in results for name in ("points", "counterfactual") for point in result.get(name, ()))
    return next(point for point in points if point["verdict"] == verdict)


@pytest.mark.parametrize("name", MODELS)
def test_what_has_passed_is_verified(name: str, made: dict[str, Path]) -> None:
    card = verify_artifact(made[name])
    assert len(card["activations"]) == 2
    assert list(load_validator().iter_errors(card)) == []


def list_properties(schema: Any) -> set[str]:
    """Every name that a schema knows, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(list_properties, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())).union(*map(list_properties, schema.values()))


def test_the_schema_is_a_schema_and_described() -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    load_validator().check_schema(schema)
    page = (SCHEMA_FILE.parents[1] / "docs" / "card.md").read_text(encoding="utf-8")
    assert [name for name in sorted(list_properties(schema)) if f"`{name}`" not in page] == []


def flip_a_byte(artifact: Path, _other: Path) -> None:
    content = bytearray((artifact / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (artifact / WEIGHTS).write_bytes(content)


def swap(name: str) -> Callable[[Path, Path], None]:
    return lambda artifact, other: shutil.copy(other / name, artifact / name) and None


def write(text: str) -> Callable[[Path, Path], None]:
    return lambda artifact, _other: (artifact / PARITY_CARD).write_text(text) and None


def remove(name: str) -> Callable[[Path, Path], None]:
    return lambda artifact, _other: (artifact / name).unlink()


# what was done to the files: what is said of it
FILES = {
    "flipped byte": (flip_a_byte, f"{WEIGHTS}: SHA-256"),
    "swapped weights": (swap(WEIGHTS), f"{WEIGHTS}: SHA-256"),
    "swapped config": (swap(CONFIG), "the card speaks of another model"),
    "weights gone": (remove(WEIGHTS), f"{WEIGHTS}: not there"),
    "config gone": (remove(CONFIG), f"{CONFIG}: describes no model"),
    "another's card": (swap(PARITY_CARD), "the card speaks of another model"),
    "no card": (remove(PARITY_CARD), "cannot be read"),
    "empty file": (write(""), "cannot be read"),
    "empty card": (write("{}"), "its schema is None"),
    "a list": (write("[]"), "its schema is None"),
    "another version's": (write('{"schema": "parity-card/1"}'), "its schema is 'parity-card/1'"),
    "name of a schema": (write('{"schema": "parity-card/2"}'), "'digest' is a required property"),
    "nested too deeply": (write("[" * 100_000), "cannot be read"),
}


@pytest.mark.parametrize("done", FILES)
def test_other_files_are_refused(done: str, artifact: Path, made: dict[str, Path]) -> None:
    change, message = FILES[done]
    change(artifact, made["dinov2_tiny_reg"])
    with pytest.raises(ArtifactError, match=message.replace("[", r"\[")):
        verify_artifact(artifact)


def empty_all(card: dict[str, Any]) -> None:
    card["activations"], card["verdict"] = [], "not compared"


def keep_twins(card: dict[str, Any]) -> None:
    for result in card["activations"][0]["inputs"]:
        result["baked_twin"] = 42


def forget_the_counterfactuals(card: dict[str, Any]) -> None:
    for cell in card["activations"]:
        for result in cell["inputs"]:
            result.pop("counterfactual", None)


# what was done to the card: what is said of it
CARDS: dict[str, tuple[Change, str]] = {
    "verdict": (lambda card: card.update(verdict="exact"), "the card: the verdict is exact, by its parts deviation"),
    "verdict of a cell": (
        lambda card: card["activations"][0].update(verdict="exact"),
        "float32, eager: the verdict is exact, by its parts",
    ),
    "verdict of an input": (
        lambda card: card["activations"][0]["inputs"][0].update(verdict="exact"),
        "native: all points: the verdict is exact, by its parts close",
    ),
    "verdict of a point": (lambda card: find_point(card, "close").update(verdict="exact"), "are worse than said"),
    "error": (lambda card: find_point(card, "close")["converted_error"].update(rms=1.0), "are worse than said"),
    "difference": (lambda card: find_point(card, "exact")["difference"].update(max_ulp=1), "are worse than said"),
    "figures gone": (lambda card: find_point(card, "close").pop("scale"), "are worse than said"),
    "failed": (lambda card: find_point(card, "exact").update(verdict="failed"), "the verdict is"),
    "nothing compared": (empty_all, "activations were not compared"),
    "no inputs": (lambda card: card["activations"][0].update(inputs=[]), "should be non-empty"),
    "no points": (lambda card: card["activations"][0]["inputs"][0].update(points=[]), "should be non-empty"),
    "a point less": (lambda card: card["activations"][0]["inputs"][0]["points"].pop(), "are not those of this model"),
    "twins alone": (keep_twins, "no input went through the artifact itself"),
    "no counterfactual": (forget_the_counterfactuals, "a deviation without its counterfactual"),
    "unheard-of deviation": (
        lambda card: card["activations"][0]["inputs"][1].update(deviation="moonlight"),
        "not in the ledger of known deviations: moonlight",
    ),
    "another model": (lambda card: card["spec"].update(depth=99), "the card speaks of another model"),
    "tensors not exact": (lambda card: card["tensors"].update(verdict="close"), "'exact' was expected"),
    "no tensors": (lambda card: card["tensors"].update(compared=0), "less than the minimum"),
    "a word more": (lambda card: card.update(trust="me"), "'trust' was unexpected"),
    "a file less": (lambda card: card["result"].pop(WEIGHTS), f"{WEIGHTS}: the card says nothing of it"),
}


@pytest.mark.parametrize("done", CARDS)
def test_an_edited_card_is_refused(done: str, artifact: Path) -> None:
    """Also where somebody has renewed its digest."""
    change, message = CARDS[done]
    edit(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(artifact)


@pytest.mark.parametrize("done", ["verdict of an input", "error", "another model"])
def test_the_digest_tells_that_a_card_was_edited(done: str, artifact: Path) -> None:
    edit(artifact, CARDS[done][0], is_renewed=False)
    with pytest.raises(ArtifactError, match="the card was edited"):
        verify_artifact(artifact)


def test_all_problems_are_said_at_once(artifact: Path, made: dict[str, Path]) -> None:
    flip_a_byte(artifact, artifact)
    edit(artifact, lambda card: card.update(verdict="exact"), is_renewed=False)
    with pytest.raises(ArtifactError) as raised:
        verify_artifact(artifact)
    assert len(raised.value.problems) == 3


def test_an_artifact_whose_activations_nobody_compared_is_refused(tmp_path: Path) -> None:
    golden = read_golden("dinov2_tiny")
    conversion.save_artifact(conversion.convert(golden.state_dict, **golden.overrides), tmp_path / "tiny")
    assert list(load_validator().iter_errors(read_card(tmp_path / "tiny"))) == []
    with pytest.raises(ArtifactError, match="activations were not compared"):
        verify_artifact(tmp_path / "tiny")


def test_figures_are_judged_again_by_another_tolerance(artifact: Path) -> None:
    verify_artifact(artifact, Tolerances(error_ratio=3.0))
    with pytest.raises(ArtifactError, match="are worse than said"):
        verify_artifact(artifact, Tolerances(error_ratio=0.5, chance=0.0, floor_max_ulp=0.0, floor_rms_ulp=0.0))


def test_the_command_says_what_was_compared(made: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *map(str, made.values())]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "dinov2_custom: deviation: " in lines[0]
    assert "448 capture points, on 14 inputs; 3 files as they were" in lines[0]


def test_one_that_is_refused_does_not_keep_the_others_from_it(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path), str(made["dinov2_tiny"])]) == 1
    captured = capsys.readouterr()
    assert "cannot be read" in captured.err
    assert "dinov2_custom: deviation" in captured.out


def test_the_command_takes_tolerances(made: dict[str, Path]) -> None:
    strict = ["--error-ratio=0.5", "--chance=0", "--floor-max-ulp=0", "--floor-rms-ulp=0"]
    assert main(["verify", *strict, str(made["dinov2_tiny"])]) == 1


@pytest.mark.parametrize("arguments", [[], ["verify"], ["trust", "me"]])
def test_what_is_no_command_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2


@pytest.mark.parametrize(("tampered", "status"), [(False, 0), (True, 1)])
def test_the_comparison_is_run_again(
    tampered: bool, status: int, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notices what no card does, if somebody writes the card for it."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
    if tampered:
        config = json.loads((artifact / CONFIG).read_text())
        (artifact / CONFIG).write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
        edit(artifact, lambda card: card["result"].update({CONFIG: hash_file(artifact / CONFIG)}))
    assert main(["verify", "--deep", str(artifact)]) == status
