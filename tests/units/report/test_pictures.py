"""Pictures of what two models make of the same photo: they show a difference where there is one, and none elsewhere."""

import base64
import io
import re
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conversion.report import pictures
from conversion.report.records import Picture
from conversion.suite.pictures import take_pictures
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.support.golden import read_golden
from tests.support.reports import draw
from tests.support.switched import MODELS, tell, write


def read(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


def panels(picture: Picture) -> list[np.ndarray]:
    return [read(png) for png in picture.panels.values()]


@pytest.mark.parametrize("shape", [(4, 6, 32), (4, 6, 3)])
def test_components_are_the_originals_for_both(shape: tuple[int, ...]) -> None:
    tokens = draw(*shape)
    same = pictures.show_components(tokens, tokens.clone())
    assert list(same.panels) == ["original", "converted", "difference: none"]
    first, second, difference = panels(same)
    assert first.shape == (4, 6, 3)
    assert (first == second).all()
    assert len(np.unique(difference.reshape(-1, 3), axis=0)) == 1
    moved = tokens.clone()
    moved[1, 2] += 0.1 * draw(shape[-1], seed=1)
    *_, difference = panels(pictures.show_components(tokens, moved))
    brightest = np.unravel_index(difference.sum(axis=-1).argmax(), (4, 6))
    assert brightest == (1, 2)


def test_components_spread_over_all_colours() -> None:
    image, *_ = panels(pictures.show_components(*[draw(8, 8, 16)] * 2))
    assert [channel.min() for channel in np.moveaxis(image, -1, 0)] == [0, 0, 0]
    assert [channel.max() for channel in np.moveaxis(image, -1, 0)] == [255, 255, 255]


def test_attention_is_that_of_the_first_token_among_the_last() -> None:
    query, key = draw(1 + 4 + 6, 8), draw(1 + 4 + 6, 8, seed=1)
    found = pictures.attend(query, key, 2, 1, (2, 3))
    scores = query[0, 4:] @ key[:, 4:].T / 2.0
    expected = scores.softmax(dim=0)[5:].view(2, 3)
    assert torch.allclose(found, expected)
    shown = pictures.show_attention(found, found, 1)
    assert "Head 1" in shown.text
    first, *_ = panels(shown)
    assert np.unravel_index(first.sum(axis=-1).argmax(), (2, 3)) == np.unravel_index(int(expected.argmax()), (2, 3))


def test_pixels_tell_how_many_differ() -> None:
    values = draw(3, 4, 5)
    assert pictures.show_pixels(values, values).text == "Every value is the same."
    other = values.clone()
    other[0, 1, 2] += 1
    shown = pictures.show_pixels(values, other)
    assert shown.text == "1.67% of the values differ."
    assert "difference, up to 1.0e+00" in shown.panels


def test_classes_are_ranked_by_either() -> None:
    logits = torch.arange(10.0)
    shown = pictures.show_classes(logits, logits, {9: "cat"})
    assert shown.text == "The same, in the same order."
    assert [row[0] for row in shown.table] == ["place", "1", "2", "3", "4", "5"]
    assert shown.table[1][1] == shown.table[1][3] == "cat"
    assert shown.table[2][1] == "8"  # a class without a name
    assert shown.table[1][2].endswith("%")
    assert pictures.show_classes(logits, logits.flip(0), {}).text.startswith("Not the same")
    assert len(pictures.show_classes(logits[:2], logits[:2], {}).table) == 3


def test_segments_are_counted_and_coloured_by_class() -> None:
    logits = torch.zeros(5, 2, 3)
    logits[1, 0], logits[4, 1] = 1, 1
    other = logits.clone()
    other[2, 1, 2] = 9
    shown = pictures.show_segments(logits, other)
    assert shown.text == "2 of 5 classes; 1 of 6 places differ."
    first, second, difference = panels(shown)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) == 2
    assert (first != second).any(axis=-1).sum() == 1
    assert len(np.unique(difference.reshape(-1, 3), axis=0)) == 2


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("data2vec_vision_tiny_ade20k", ["Pixels", "Patch", "Attention", "Segments"]),
        ("dinov2_tiny_1layer", ["Pixels", "Patch", "Attention", "Most"]),
        ("dinov2_tiny", ["Pixels", "Patch", "Attention"]),
    ],
)
def test_what_is_shown_is_of_the_kind_of_model(name: str, titles: list[str], tmp_path: Path) -> None:
    golden = read_golden(name)
    torch.save(golden.state_dict, tmp_path / "tiny.pth")
    subject = Subject(
        f"{golden.family.name}_custom", Request(checkpoint=tmp_path / "tiny.pth", overrides=golden.overrides)
    )
    with closing(subject):
        taken = take_pictures(subject, ("cpu", "float32", golden.family.choose_attention()))
    assert [re.split(r"\W", picture.title)[0] for picture in taken] == titles


def test_nothing_is_shown_where_nobody_says_how_images_are_made(tmp_path: Path) -> None:
    spec = MODELS["five channels, registers"]
    subject = Subject("dinov2_custom", Request(checkpoint=write(spec, tmp_path), overrides=tell(spec)))
    with closing(subject), warnings.catch_warnings(action="ignore"):
        assert take_pictures(subject, ("cpu", "float32", "sdpa")) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_can_be_shown(value: float) -> None:
    tokens = draw(4, 4, 8)
    broken = tokens.clone()
    broken[0, 0, 0] = value
    assert len(pictures.show_components(tokens, broken).panels) == 3
    assert len(pictures.show_attention(tokens[..., 0], broken[..., 0], 0).panels) == 3
