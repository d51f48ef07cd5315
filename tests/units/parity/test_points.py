"""Places in a model, as capture points have them."""

import pytest
import torch

from conversion.parity.points import read_place


def test_a_place_is_a_module_and_an_item_or_a_part_of_it() -> None:
    place = read_place("attn.qkv:output[1/3]")
    assert (place.module, place.item) == ("attn.qkv", "output")
    assert torch.equal(place.cut(torch.arange(6).view(1, 6)), torch.tensor([[2, 3]]))
    assert read_place(":logits").module == ""
    for text in ("attn.qkv", "attn:output[1]", "attn:output[a/b]", ""):
        with pytest.raises(ValueError, match="not a place in a model"):
            read_place(text)
