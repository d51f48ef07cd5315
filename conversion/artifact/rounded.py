"""What was rounded when weights were read, as a card's steps of intake say it."""

import re
from collections.abc import Mapping
from typing import Any

import torch

CAST = re.compile(r"cast from (.+) to torch\.(\w+)$")
"""How the step of intake that casts says what it did."""


def find_rounding(card: Mapping[str, Any]) -> tuple[str, str]:
    """Find what was rounded when the weights were read, in words, and to which dtype; nothing where nothing was."""
    steps = (step for checkpoint in card["source"]["checkpoints"].values() for step in checkpoint["intake"])
    casts = (step["did"] for step in steps if step["name"] == "cast")
    found = ((did, *match.groups()) for did in casts if (match := CAST.search(did)))
    return next(((did, after) for did, before, after in found if _rounds(before, after)), ("", ""))


def _rounds(before: str, after: str) -> bool:
    target = getattr(torch, after)
    own = (getattr(torch, name.strip().removeprefix("torch.")) for name in before.split(","))
    return not all(can_hold(target, dtype) for dtype in own)


def can_hold(wider: torch.dtype, dtype: torch.dtype) -> bool:
    """Whether a dtype has every value of another one."""
    if not (wider.is_floating_point and dtype.is_floating_point):
        return torch.promote_types(wider, dtype) == wider
    one, other = torch.finfo(wider), torch.finfo(dtype)
    return one.max >= other.max and one.eps <= other.eps and one.tiny * one.eps <= other.tiny * other.eps
