"""Class names: from timm, or from a file of the user's."""

from pathlib import Path
from typing import Any

import pytest

import conversion
from conversion.errors import CheckpointError, VariantError
from conversion.families.labels import imagenet_labels, read_labels
from tests.support.golden import read_golden

READABLE = {
    "names.txt": "wall\nbuilding\nsky\n",
    "names.json": '["wall", "building", "sky"]',
    "id2label.json": '{"1": "building", "0": "wall", "2": "sky"}',
}
UNREADABLE = {
    "empty.txt": "",
    "gap.txt": "wall\n\nsky\n",
    "gap.json": '{"0": "wall", "2": "sky"}',
    "number.json": "3",
    "text.json": '"wall"',
    "numbers.json": "[1, 2]",
    "broken.json": '["wall"',
    "deep.json": "[" * 100_000,
    "image.txt": b"\x89PNG\xff",
}


@pytest.mark.parametrize("name", READABLE)
def test_names_are_read_from_lines_and_json(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(READABLE[name], encoding="utf-8")
    assert read_labels(tmp_path / name) == ("wall", "building", "sky")


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_list_of_names_is_refused(name: str, tmp_path: Path) -> None:
    content = UNREADABLE[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=name):
        read_labels(tmp_path / name)


def test_imagenet_has_its_thousand_names() -> None:
    assert len(imagenet_labels()) == 1000


@pytest.mark.parametrize("labels", ["wall", {"0": "wall"}])
def test_names_in_no_order_are_refused(labels: Any) -> None:
    golden = read_golden("dinov2_tiny_1layer")
    kind = type(labels).__name__
    with pytest.raises(CheckpointError, match=f"Class names are a sequence in the order of the logits, not a {kind}"):
        conversion.convert(golden.state_dict, **golden.overrides, labels=labels)


def test_names_for_a_model_without_classes_are_refused() -> None:
    golden = read_golden("data2vec_vision_tiny")
    with pytest.raises(VariantError, match="data2vec_vision_custom has no classes"):
        conversion.convert(golden.recorded, **golden.overrides, labels=["wall"])
