"""Places in a model, as capture points have them."""

import pytest
import torch

from conversion.parity.points import read_tap


def test_a_place_is_a_module_and_an_item_or_a_part_of_it() -> None:
    tap = read_tap("attn.qkv:output[1/3]")
    assert (tap.module, tap.item) == ("attn.qkv", "output")
    assert torch.equal(tap.cut(torch.arange(6).view(1, 6)), torch.tensor([[2, 3]]))
    assert read_tap(":logits").module == ""
    for text in ("attn.qkv", "attn:output[1]", "attn:output[a/b]", ""):
        with pytest.raises(ValueError, match="not a place in a model"):
            read_tap(text)
