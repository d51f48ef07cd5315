"""A depth head and its backbone become one state dict, which still says what was told of it."""

import pytest
import torch
from torch import Tensor

from conversion.errors import CheckpointError, KeyMapError
from conversion.families.heads import DEPTH_HEAD
from conversion.families.told import Told, ToldStateDict
from conversion.mapping.key_map import shapes_of
from conversion.state_dicts.depth_head import DPT_ALONE, merge_depth_head, refuse_depth_head
from tests.support.golden import read_golden

WHOLE = read_golden("dinov2_tiny_dd").state_dict
BACKBONE, HEAD = DEPTH_HEAD.split(WHOLE)


def test_without_a_head_the_state_dict_stays_what_it_is() -> None:
    assert merge_depth_head(BACKBONE, None) is BACKBONE


def test_what_was_told_of_the_backbone_is_told_of_both() -> None:
    told = {"num_attention_heads": Told(2, "config.yaml")}
    merged = merge_depth_head(ToldStateDict(BACKBONE, told, "timm", ["a class"]), HEAD)
    assert isinstance(merged, ToldStateDict)
    assert merged.keys() == WHOLE.keys()
    assert (merged.told, merged.writer, merged.labels) == (told, "timm", ["a class"])
    assert type(merge_depth_head(BACKBONE, HEAD)) is dict


def test_what_is_no_head_is_refused_with_its_keys() -> None:
    other: dict[str, Tensor] = {"decode_head.conv_depth.weight": torch.ones(1)}
    with pytest.raises(CheckpointError) as raised:
        merge_depth_head(BACKBONE, other)
    assert raised.value.headline == "the depth head's file: it holds no DPT head."
    assert (raised.value.problems, raised.value.hint) == (tuple(other), DPT_ALONE)


def test_a_second_head_is_refused() -> None:
    with pytest.raises(KeyMapError) as raised:
        merge_depth_head(WHOLE, HEAD)
    assert raised.value.headline == "The checkpoint has a depth head of its own."
    assert raised.value.hint == "Leave --depth-head out."


def test_a_head_is_no_model() -> None:
    refuse_depth_head(shapes_of(WHOLE))
    with pytest.raises(CheckpointError) as raised:
        refuse_depth_head(shapes_of(HEAD))
    assert raised.value.headline == "a depth head, and no model."
    assert raised.value.hint == "Give it beside its backbone: vision-parity convert BACKBONE --depth-head THIS_FILE"
