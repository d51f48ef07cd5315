"""What models of the same weights share, and what they do not."""

import copy

import pytest
import torch
from torch import nn

from conversion.parity.sharing import Held, share_tensors


def build() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 16)


def test_a_second_load_holds_no_tensor_of_its_own() -> None:
    held: Held = {}
    first, second = (share_tensors(build(), held) for _ in range(2))
    assert second.weight is first.weight
    assert second.bias is first.bias


def test_the_head_of_a_classifier_is_its_own() -> None:
    held: Held = {}
    backbone = share_tensors(nn.Sequential(build()), held)
    classifier = share_tensors(nn.ModuleDict({"backbone": build(), "head": nn.Linear(16, 16)}), held)
    assert classifier["backbone"].weight is backbone[0].weight
    assert classifier["head"].weight is not backbone[0].weight


@pytest.mark.parametrize("index", [0, -1])
def test_one_bit_keeps_them_apart(index: int) -> None:
    held: Held = {}
    first, second = build(), build()
    with torch.no_grad():
        second.weight.view(-1).view(torch.int32)[index] ^= 1
    share_tensors(first, held)
    wrong = copy.deepcopy(second.weight)
    share_tensors(second, held)
    assert second.weight is not first.weight
    assert torch.equal(second.weight, wrong)


def test_another_place_in_memory_keeps_them_apart() -> None:
    held: Held = {}
    first, second = build(), build()
    room = torch.empty(16 * 16 + 1)
    room[1:] = second.weight.detach().flatten()
    second.weight = nn.Parameter(room[1:].view(16, 16))
    share_tensors(first, held)
    share_tensors(second, held)
    assert second.weight is not first.weight
