"""The figures of a card's inputs follow from those of its capture points, and are numbers."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from conversion.artifact.verify import verify_artifact
from conversion.errors import ArtifactError
from tests.support.verified import Change, edit, find_input


@pytest.fixture
def artifact(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))


def put_nan(card: dict[str, Any]) -> None:
    """Into the difference at a point, by which nothing is judged."""
    point = next(point for point in find_input(card, "native")["points"] if not isinstance(point, str))
    point[card["columns"].index("difference.rms")] = float("nan")


# what was done to a card, whose digest was renewed: what is said of it
CARDS: dict[str, tuple[Change, str]] = {
    "max_abs": (lambda card: find_input(card, "native").update(max_abs=0.0), "native: max_abs: 0.0, by its capture"),
    "error_ratio": (
        lambda card: find_input(card, "native").update(error_ratio=1.0),
        "native: error_ratio: 1.0, by its capture points",
    ),
    "a figure that is no number": (
        put_nan,
        "cpu, float32, eager, native: figures of points that are close are no numbers: ",
    ),
    "a size that an input was not baked for": (
        lambda card: find_input(card, "224_baked").update(baked_twin=70),
        r"224_baked: baked_twin: 70, of an input \(1, 3, 224, 224\)",
    ),
}


@pytest.mark.parametrize("done", CARDS)
def test_a_figure_that_can_be_derived_is_derived(done: str, artifact: Path) -> None:
    change, message = CARDS[done]
    edit(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(artifact)
