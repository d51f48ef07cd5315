"""What is said of a state dict that its key map does not fit, whole."""

from typing import Any

import pytest
import torch

from conversion.errors import KeyMapError
from conversion.mapping.key_map import REMEDIES, check_complete, convert, expand, restore
from conversion.mapping.tensors import square_side


def refuse(call: Any, *arguments: Any, **options: Any) -> list[str]:
    """The lines of what is said."""
    with pytest.raises(KeyMapError) as raised:
        call(*arguments, **options)
    return str(raised.value).splitlines()


def test_two_tensors_for_one_key_are_named() -> None:
    assert refuse(expand, {"a.{}": "b.{}", "c": "b.0"}, 2) == [
        "The key map sends several tensors to one key.",
        "  - b.0: produced by a.0, c",
    ]


def test_keys_that_the_map_does_not_have_are_named_and_those_that_it_lacks() -> None:
    table = expand({"a": "b", "qkv": ("q", "k", "v")}, 0)
    assert refuse(convert, {"x": torch.ones(1), "a": torch.ones(1)}, table) == [
        "The state dict has other keys than its key map.",
        "  - not in the key map: x",
        "  - missing: qkv",
    ]
    assert refuse(restore, {"x": torch.ones(1), "b": torch.ones(1), "k": torch.ones(1)}, table) == [
        "The converted state dict has other keys than its config tells.",
        "  - unexpected: x",
        "  - missing: q",
        "  - missing: v",
    ]


def test_all_problems_of_tensors_are_told_with_the_way_out_of_each() -> None:
    expected = {"a": torch.empty(2, 3), "b": torch.empty(4), "c": torch.empty(2), "index": torch.empty(2).long()}
    held = {"a": torch.ones(3, 2), "b": torch.ones(5), "index": torch.ones(2).int(), "d": torch.ones(1)}
    assert refuse(check_complete, held, expected, subject="it") == [
        "it: 5 problem(s) with its tensors.",
        "  - missing: c (2,)",
        "  - unexpected: d (1,)",
        "  - wrong shape: a is (3, 2), expected (2, 3) (transposed?)",
        "  - wrong shape: b is (5,), expected (4,)",
        "  - wrong dtype: index is torch.int32, torch.strided, expected a dense torch.int64",
        " ".join(REMEDIES[sign] for sign in ("missing: ", "unexpected: ", "wrong shape", "wrong dtype")),
    ]


def test_only_squares_have_a_side() -> None:
    assert [square_side(number) for number in (1, 4, 9)] == [1, 2, 3]
    for number in (-4, 0, 8):
        assert refuse(square_side, number) == [f"{number} patch positions do not form a square grid."]
