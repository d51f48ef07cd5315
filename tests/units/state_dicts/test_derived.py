"""Buffers that follow from a model's size: what a moving average makes of them, and nothing else, is let pass."""

import pytest
import torch
from torch import Tensor

from conversion.errors import KeyMapError
from conversion.state_dicts.derived import HINT, check_derived, is_truncated, list_damage

WHOLE = torch.tensor([0, 5, 100, 1000])


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (WHOLE, True),
        (torch.tensor([0, 4, 99, 999]), True),
        (torch.tensor([0, 5, 98, 1000]), True),  # 100 sinks by up to 2.19
        (torch.tensor([0, 5, 97, 1000]), False),
        (torch.tensor([0, 5, 100, 988]), True),  # and 1000 by up to 12.9
        (torch.tensor([0, 5, 100, 987]), False),
        (torch.tensor([0, 3, 100, 1000]), False),
        (torch.tensor([0, 6, 100, 1000]), False),
        (torch.tensor([-1, 5, 100, 1000]), False),
        (WHOLE.int(), False),
        (WHOLE[:3], False),
        (WHOLE[None], False),
        (WHOLE.to_sparse(), False),
    ],
)
def test_an_average_sinks_by_what_it_truncates(tensor: Tensor, expected: bool) -> None:
    assert is_truncated(WHOLE, tensor) is expected


def test_what_was_averaged_is_said_and_what_is_no_such_buffer_is_refused() -> None:
    derived = {"blocks.0.index": WHOLE, "blocks.1.index": WHOLE, "blocks.2.index": WHOLE}
    held = {
        "blocks.0.index": torch.tensor([0, 4, 99, 999]),
        "blocks.1.index": WHOLE.clone(),
        "blocks.2.index": WHOLE.to("meta"),  # of which nothing can be seen
        "head.weight": torch.ones(2),  # dropped for another reason
    }
    said = "3 of 4 entries truncated by averaging; computed again"
    assert check_derived(derived, held, "a model") == {"blocks.0.index": said}
    held |= {"blocks.1.index": WHOLE + 1, "blocks.3.index": WHOLE.float()}
    with pytest.raises(KeyMapError) as raised:
        check_derived(derived, held, "a model")
    assert str(raised.value).splitlines() == [
        "a model: 2 tensor(s) that cannot be left out.",
        "  - blocks.1.index: (4,) torch.int64, is not what follows from the model's size",
        "  - blocks.3.index: (4,) torch.float32, is not what follows from the model's size",
        HINT,
    ]


def test_damage_of_a_kind_is_told_once() -> None:
    damaged = {"a.index": "one", "b.index": "one", "c.index": "one", "d.index": "two"}
    assert list_damage(damaged) == ("a.index and 2 more: one", "d.index: two")
