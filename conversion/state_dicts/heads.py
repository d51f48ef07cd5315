"""A backbone and the heads beside it, brought together into the one state dict that is converted."""

from torch import Tensor

from conversion.mapping.key_map import StateDict
from conversion.state_dicts.depth_head import merge_depth_head
from conversion.state_dicts.linear_head import merge_linear_head


def merge_heads(
    state_dict: StateDict,
    *,
    linear_head: StateDict | None = None,
    linear_head_entry: str | None = None,
    depth_head: StateDict | None = None,
) -> dict[str, Tensor]:
    """One state dict of all, as :func:`merge_linear_head` and :func:`merge_depth_head` make it."""
    return merge_linear_head(merge_depth_head(state_dict, depth_head), linear_head, linear_head_entry)
