"""A card is read as it was written; one of an earlier version as this one writes it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversion.artifact.answer import build_answer
from conversion.artifact.card import digest_of, format_json
from conversion.artifact.card_points import eps_of, read_points, record_points, round_point
from conversion.artifact.reading import EARLIER, read_card, upgrade
from conversion.artifact.verify import verify_artifact
from conversion.errors import ArtifactError
from conversion.parity.metrics import NO_DIFFERENCE, Distance
from conversion.parity.verdict import PointVerdict, Verdict, allow, find_excess
from conversion.state_dicts.folder import PARITY_CARD
from tests.support.golden import DIRECTORY

OLD = DIRECTORY.parent / "cards" / "dinov2_tiny_schema_2.json"


@pytest.fixture
def artifact(made: dict[str, Path], tmp_path: Path) -> Path:
    """With the card of an earlier version, of these files: a config says by which version of transformers it is."""
    folder = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))
    card = json.loads(OLD.read_text()) | {"result": read_card(folder)["result"]}
    (folder / PARITY_CARD).write_text(json.dumps(card | {"digest": digest_of(card)}))
    return folder


def test_an_artifact_of_an_earlier_version_is_verified(artifact: Path) -> None:
    assert json.loads(OLD.read_text())["schema"] == EARLIER
    card = verify_artifact(artifact)
    eager, exact = build_answer(card).conversion
    assert (eager.verdict, exact.verdict) == (Verdict.CLOSE, Verdict.EXACT)
    assert [each.name for each in build_answer(card).otherwise if each.sizes] == ["position-embeddings-offset"]


def test_what_an_earlier_card_says_is_kept() -> None:
    old = json.loads(OLD.read_text())
    new = upgrade(old)
    for cell, before in zip(new["activations"], old["activations"], strict=True):
        for result, said in zip(cell["inputs"], before["inputs"], strict=True):
            points = read_points(result["points"], "float32")
            decisive = said.get("counterfactual") or said["points"]
            assert [(point.point, str(point.verdict)) for point in points] == [
                (each["point"], each["verdict"]) for each in decisive
            ]
            assert [point.allowed and point.allowed.rms for point in points] == [
                each["allowed"]["rms"] if "allowed" in each else None for each in decisive
            ]
            noted = {each["point"]: each["difference"] for each in said["points"] if "counterfactual" in said}
            shown = {name: [size["max_abs"], size["rms"]] for name, size in noted.items() if size["max_abs"]}
            assert result.get("otherwise", {}).keys() == shown.keys()
            for name, (largest, rms) in result.get("otherwise", {}).items():
                assert [largest, rms] == pytest.approx(shown[name], rel=1e-5)


def fail_a_counterfactual(card: dict[str, Any]) -> None:
    result = card["activations"][0]["inputs"][1]
    result["counterfactual"][-1]["converted_error"]["rms"] = 1.0


def forget_the_counterfactuals(card: dict[str, Any]) -> None:
    for cell in card["activations"]:
        for result in cell["inputs"]:
            result.pop("counterfactual", None)


def exact_of(card: dict[str, Any]) -> dict[str, Any]:
    """The first capture point that is exact."""
    points: list[dict[str, Any]] = card["activations"][0]["inputs"][0]["points"]
    return next(point for point in points if point["verdict"] == "exact")


def note_a_failure(card: dict[str, Any]) -> None:
    card["activations"][0]["inputs"][1]["points"][-1].update(verdict="failed", reason="the converted has NaN or Inf")


# what somebody did to an earlier card, whose digest was renewed: what is said of it
EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "verdict": (lambda card: card.update(verdict="exact"), "the card: the verdict is exact, by its parts close"),
    "a failed counterfactual": (fail_a_counterfactual, "are worse than said"),
    "no counterfactual": (forget_the_counterfactuals, "by the card itself, it is not the same model"),
    "a failure noted": (note_a_failure, "by the card itself, it is not the same model"),
    "no points": (lambda card: card["activations"][0]["inputs"][0].update(points=[]), "is no verification card"),
    "points of another kind": (lambda card: card["activations"][0]["inputs"][0].update(points=[7]), "parity-card/2"),
    "an exact point that is off": (
        lambda card: exact_of(card)["difference"].update(max_abs=5.0),
        "as parity-card/2: .*exact, and its difference is not",
    ),
    "fewer points than decide": (
        lambda card: card["activations"][0]["inputs"][1]["points"].pop(),
        "as parity-card/2: .*other points than under the counterfactual",
    ),
    "a figure beyond all numbers": (
        lambda card: card["activations"][0]["inputs"][1]["points"][-1]["difference"].update(max_abs=10**400),
        "cannot be read: a whole number of 401 digits",
    ),
    "cells of another kind": (lambda card: card.update(activations=None), "is no verification card"),
}


@pytest.mark.parametrize("done", EDITS)
def test_an_edited_card_of_an_earlier_version_is_refused(done: str, artifact: Path) -> None:
    change, message = EDITS[done]
    card = json.loads((artifact / PARITY_CARD).read_text())
    change(card)
    (artifact / PARITY_CARD).write_text(json.dumps(card | {"digest": digest_of(card)}))
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(artifact)


def test_a_card_of_an_earlier_version_keeps_a_digest_that_is_wrong(artifact: Path) -> None:
    card = json.loads((artifact / PARITY_CARD).read_text())
    (artifact / PARITY_CARD).write_text(json.dumps(card | {"notes": ["trust me"]}))
    with pytest.raises(ArtifactError, match="the card was edited"):
        verify_artifact(artifact)


SIZES = st.floats(1e-12, 1e3)
DISTANCES = st.builds(Distance, SIZES, SIZES)


@given(own=DISTANCES, scale=DISTANCES, times=st.floats(0.1, 4.0), elements=st.integers(1, 10**7))
def test_no_verdict_is_rounded_into_another(own: Distance, scale: Distance, times: float, elements: int) -> None:
    """As near to what is allowed as it may lie."""
    allowed = allow(own, scale, elements, eps_of("float32"))
    error = Distance(allowed.max_abs * min(times, 1.0), allowed.rms * times)
    verdict = Verdict.FAILED if find_excess(error, allowed) else Verdict.CLOSE
    point = PointVerdict("a", verdict, error, None, own, error, allowed, scale, elements)
    (read,) = read_points(json.loads(json.dumps(record_points([round_point(point, "float32")]))), "float32")
    assert read.verdict is verdict
    assert read.converted_error is not None
    assert read.allowed is not None
    assert bool(find_excess(read.converted_error, read.allowed)) == (verdict is Verdict.FAILED)
    assert read.converted_error.rms == pytest.approx(error.rms, rel=1e-5)


def test_a_row_has_what_there_is_and_an_exact_point_its_name_alone() -> None:
    exact = PointVerdict("a", Verdict.EXACT, NO_DIFFERENCE)
    failed = PointVerdict("b", Verdict.FAILED, reason="shapes differ")
    rows = record_points([exact, failed])
    assert rows[0] == "a"
    assert rows[1][:2] == ["b", "failed"]
    assert read_points(rows, "float32") == [exact, failed]


def test_a_card_is_read_as_it_was_written(made: dict[str, Path]) -> None:
    text = (made["dinov2_tiny"] / PARITY_CARD).read_text()
    card = read_card(made["dinov2_tiny"])
    assert json.loads(text) == card
    assert format_json(card) + "\n" == text
    assert {line.count("[") for line in text.splitlines() if '"close", ' in line and line.strip()[0] == "["} == {1}
